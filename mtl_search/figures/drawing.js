// Draws every element with data-figure: the specification stands in the script element of that id, the colours in
// "light" and "dark". Drawn anew where the width or the reader's choice of light or dark changes.
(() => {
  "use strict";
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const read = (id) => JSON.parse(document.getElementById(id).textContent);

  function fitted(spec, width) {
    if (spec.layer && width < 520) {
      spec = { ...spec, layer: spec.layer.filter((part) => part.name !== "numbers") }; // cells too small for them
    }
    if (!spec.concat) {
      return { ...spec, width, autosize: { type: "fit-x", contains: "padding" } };
    }
    const columns = width >= 620 ? 2 : 1;
    const own = Math.max(width / columns - 105, 120);
    return { ...spec, columns, concat: spec.concat.map((view) => ({ ...view, width: own })) };
  }

  async function draw(node) {
    const width = Math.floor(node.clientWidth);
    if (!width || node.dataset.drawn === `${width} ${dark.matches}`) return;
    node.dataset.drawn = `${width} ${dark.matches}`;
    const config = read(dark.matches ? "dark" : "light");
    const narrow = width < 520;
    config.axisY = { ...config.axisY, labelLimit: Math.max(width * (narrow ? 0.36 : 0.3), 80) };
    if (narrow) {
      config.axisX = { ...config.axisX, titleAnchor: "end" }; // a title longer than the axis keeps its end on the page
      // Long names often differ at their ends, so the middle goes.
      config.axisY.labelExpr =
        "length(datum.label) > 15 ? slice(datum.label, 0, 5) + '…' + slice(datum.label, -9) : datum.label";
    }
    config.legend = { ...config.legend, columns: narrow ? 2 : 4, labelLimit: narrow ? width / 2 - 40 : 200 };
    const spec = fitted(read(node.dataset.figure), width);
    await vegaEmbed(node, spec, {
      config,
      mode: "vega-lite",
      renderer: JSON.stringify(spec).length > 400000 ? "canvas" : "svg",
      actions: { export: true, source: false, compiled: false, editor: false },
      tooltip: { theme: dark.matches ? "dark" : "light" },
    });
  }

  // One after the other, so that a page of many figures can be read while it draws.
  let queue = Promise.resolve();
  const nodes = [...document.querySelectorAll("[data-figure]")];
  const all = () => nodes.forEach((node) => { queue = queue.then(() => draw(node)); });
  let waiting;
  window.addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(all, 150); });
  dark.addEventListener("change", all);
  all();
})();
