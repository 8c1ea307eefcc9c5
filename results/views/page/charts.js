const charts = JSON.parse(document.getElementById("charts").textContent);
const views = new Map();

for (const element of document.querySelectorAll("[data-chart]")) {
  vegaEmbed(element, charts[element.dataset.chart], {
    actions: false,
    ast: true,
    defaultStyle: false,
    renderer: "svg",
    tooltip: { disableDefaultStyle: true },
  }).then(({ view }) => {
    views.set(element, view);
    const hidden = element.closest(".one-board")?.hiddenEdits;
    if (hidden) view.signal("hidden", hidden).runAsync();
    element.dataset.drawn = "";
  }, (error) => {
    element.textContent = "This chart could not be drawn: " + error.message;
    console.error(error);
  });
}

const theme = document.getElementById("theme");
const prefersDark = matchMedia("(prefers-color-scheme: dark)");
function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : prefersDark.matches;
}
function nameTheme() {
  theme.textContent = isDark() ? "Light theme" : "Dark theme";
}
theme.hidden = false;
theme.addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  nameTheme();
});
prefersDark.addEventListener("change", nameTheme);
nameTheme();

const unseen = new Set();
function open(element) {
  for (let at = element; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
}
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details:not([open])")) {
    unseen.add(details);
    open(details);
  }
});
addEventListener("afterprint", () => {
  for (const details of unseen) details.open = false;
  unseen.clear();
});
