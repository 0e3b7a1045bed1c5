// Before anything is drawn: the theme that was chosen in this browser.
const chosen = localStorage.getItem("theme");
if (chosen) document.documentElement.dataset.theme = chosen;
