// Shows while typing what the server would show on Enter.
(() => {
  const field = document.getElementById("q");
  const rows = [...document.querySelectorAll("#tickers tbody tr")];
  const found = document.getElementById("found");
  const whole = found.textContent;

  const narrow = () => {
    const wanted = field.value.trim().toUpperCase();
    let shown = 0;
    for (const row of rows) {
      row.hidden = !row.dataset.ticker.toUpperCase().includes(wanted);
      if (!row.hidden) shown += 1;
    }
    found.textContent = wanted ? `${shown} of ${rows.length} tickers` : whole;
  };

  // With a search from the server, the table holds what was found; only Enter widens it.
  if (!new URLSearchParams(location.search).get("q")) field.addEventListener("input", narrow);
})();
