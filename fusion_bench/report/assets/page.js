import { ITable } from "itables";

const charts = JSON.parse(document.getElementById("data").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// What all charts look like, in the colours of the page.
function theme() {
  const [ink, soft, line] = ["--ink", "--soft", "--line"].map(colour);
  const family = "system-ui, sans-serif", clear = "rgba(0,0,0,0)";
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: soft, automargin: true };
  const errors = { thickness: 1, color: soft, width: 0 };
  return {
    layout: {
      font: { color: ink, size: 12, family }, hoverlabel: { font: { family } }, paper_bgcolor: clear, plot_bgcolor: clear,
      xaxis: axis, yaxis: axis, bargap: 0.05, annotationdefaults: { showarrow: true, font: { size: 11 } },
      legend: { orientation: "h", yanchor: "bottom", y: 1.01, x: 0 },
      title: { font: { size: 13 }, x: 0, xref: "paper", y: 1, yref: "container", yanchor: "top" },
      modebar: { bgcolor: clear, color: soft, activecolor: ink },
    },
    data: {
      scatter: [{ type: "scatter", marker: { line: { color: soft, width: 0.8 } }, error_x: errors, error_y: errors }],
      bar: [{ type: "bar", error_y: { ...errors, width: 4 } }],
      heatmap: [{ type: "heatmap", textfont: { color: ink }, showscale: false, xgap: 1, ygap: 1, hoverongaps: false }],
    },
  };
}

// Charts are drawn when they come near the window: a page may hold many.
const near = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries)
    if (isIntersecting && !target.data) draw(target);
}, { rootMargin: "800px" });

function draw(element) {
  near.unobserve(element);
  const { panels, shared } = charts[element.id];
  const select = document.querySelector("select[data-charts~='" + element.id + "']");
  const { data, layout } = structuredClone(panels[select?.value] ?? Object.values(panels)[0]);
  const dragmode = matchMedia("(pointer: coarse)").matches ? false : "zoom"; // a finger scrolls the page
  const margin = { l: 8, r: 8, t: layout.title.text ? 62 : 28, b: 8 };
  Plotly.react(element, [...data, ...structuredClone(shared)], { ...layout, margin, template: theme(), dragmode },
    { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d"] });
}

function choose(select) {
  for (const name of select.dataset.charts.split(" ")) {
    const element = document.getElementById(name);
    if (element.data) draw(element);
  }
}

for (const element of document.querySelectorAll(".chart")) near.observe(element);
for (const select of document.querySelectorAll("select[data-charts]"))
  select.addEventListener("change", () => choose(select));

const narrow = matchMedia("(max-width: 600px)").matches;
for (const table of document.querySelectorAll(".table table")) {
  const columns = [...table.querySelectorAll("thead th")].map((head) => ({
    visible: head.dataset.hidden === undefined && !(narrow && head.dataset.name === "family"),
    type: head.dataset.number === undefined ? "string" : "num",
    className: head.dataset.number === undefined ? "" : "number",
    orderSequence: head.dataset.first === "desc" ? ["desc", "asc"] : ["asc", "desc"],
  }));
  const { dt } = new ITable(table, {
    columns, order: [], paging: false, autoWidth: false, info: false,
    layout: { topStart: { buttons: [{ extend: "colvis", text: "columns" }] }, topEnd: "search" },
    language: { search: "filter" },
  });
  const family = document.querySelector("select[data-table='" + table.id + "']");
  family.addEventListener("change", () =>
    dt.column(1).search(family.value, { exact: family.value !== "" }).draw());
}

function paint() {
  document.documentElement.classList.toggle("dark", dark.matches);
  for (const element of document.querySelectorAll(".chart"))
    if (element.data) Plotly.relayout(element, { template: theme() });
}
dark.addEventListener("change", paint);

// On paper: every chart, as wide as the page, in light colours.
const PAPER_WIDTH = 690, HALF_PAGE = 400; // of A4 without margins, in CSS pixels
addEventListener("beforeprint", () => {
  document.documentElement.classList.add("print");
  document.documentElement.classList.remove("dark");
  for (const element of document.querySelectorAll(".chart")) {
    draw(element);
    const height = element.layout.height <= 480 ? HALF_PAGE : element.layout.height;
    Plotly.relayout(element, { width: PAPER_WIDTH, height, template: theme() });
  }
});
addEventListener("afterprint", () => {
  document.documentElement.classList.remove("print");
  for (const element of document.querySelectorAll(".chart")) draw(element);
  paint();
});
paint();
