// Light or dark, as chosen in the admin; otherwise as the system says. Runs before the page is drawn.
(() => {
  let chosen = null;
  try {
    chosen = JSON.parse(localStorage.getItem("adminTheme"));
  } catch { /* storage is off, or holds something else */ }
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
})();
