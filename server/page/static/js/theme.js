/** Light or dark, before anything is drawn: the one script that is not a module. */

(() => {
  const KEY = `glmserve${location.pathname}theme`;
  const dark = matchMedia("(prefers-color-scheme: dark)");

  function apply() {
    let chosen = "";
    try {
      chosen = localStorage.getItem(KEY) ?? "";
    } catch {
      // Without storage there is nothing chosen.
    }
    document.documentElement.dataset.theme = chosen || (dark.matches ? "dark" : "light");
  }

  dark.addEventListener("change", apply);
  addEventListener("themechosen", apply);
  apply();
})();
