// On a phone the navigation lies over the page: fold it away again once a page is chosen from it. Its parts have no other
// names, and Streamlit has no setting for it.
if (!window.foldsMenu) {
  window.foldsMenu = true;
  document.addEventListener("click", (event) => {
    const chosen = event.target.closest("[data-testid=stSidebarNav] a");
    if (!chosen || window.innerWidth >= 768) return;
    setTimeout(() => document.querySelector("[data-testid=stSidebarCollapseButton] button")?.click(), 0);
  });
}
// The address follows every choice. Only what opens something else is a page to go back to: another path, or another run,
// lesson, model or group in the place of one; all other changes complete the address of the page that is open.
if (!window.fewerPages) {
  window.fewerPages = true;
  const push = history.pushState.bind(history);
  const opened = ["run", "other", "lesson", "model", "data", "group", "tour"];
  history.pushState = (state, unused, url) => {
    const [from, to] = [location, new URL(url ?? location.href, location.href)].map((at) => [at.pathname, new URLSearchParams(at.search)]);
    const other = opened.some((name) => from[1].get(name) && to[1].get(name) && from[1].get(name) !== to[1].get(name));
    if (from[0] !== to[0] || other) push(state, unused, url);
    else history.replaceState(state, unused, url);
  };
}
