// Draws the charts in the colours of the theme, and redraws them when the theme changes.
(() => {
  const config = { displayModeBar: false, responsive: true };
  const drag = matchMedia("(pointer: fine)").matches ? "zoom" : false;

  // The value of a CSS property in the current theme, computed by the browser.
  const probe = document.createElement("span");
  probe.hidden = true;
  document.body.append(probe);
  const resolved = (name) => {
    probe.style.color = name;
    return getComputedStyle(probe).color;
  };

  const coloured = (value) => {
    if (typeof value === "string") return value.startsWith("var(") ? resolved(value) : value;
    if (Array.isArray(value)) return value.map(coloured);
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, coloured(part)]));
  };

  const draw = () => {
    for (const place of document.querySelectorAll("[data-figure]")) {
      const figure = JSON.parse(document.getElementById(place.dataset.figure).textContent);
      const { data, layout } = coloured(figure);
      Plotly.react(place, data, { ...layout, dragmode: drag }, config);
    }
  };

  document.addEventListener("themechange", draw);
})();
