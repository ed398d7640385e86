// Filters the table while typing, as the server does on Enter.
(() => {
  const field = document.getElementById("q");
  const rows = [...document.querySelectorAll("#tickers tbody tr")];
  const found = document.getElementById("found");
  const initial = found.textContent;

  const filter = () => {
    const search = field.value.trim().toUpperCase();
    let shown = 0;
    for (const row of rows) {
      row.hidden = !row.dataset.ticker.toUpperCase().includes(search);
      if (!row.hidden) shown += 1;
    }
    found.textContent = search ? `${shown} of ${rows.length} tickers` : initial;
  };

  // After a search on the server the table holds only its results.
  if (!new URLSearchParams(location.search).get("q")) field.addEventListener("input", filter);
})();
