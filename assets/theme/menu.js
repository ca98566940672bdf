// On a phone the navigation lies over the page: fold it away again once a page is chosen from it.
if (!window.foldsMenu) {
  window.foldsMenu = true;
  document.addEventListener("click", (event) => {
    const chosen = event.target.closest("[data-testid=stSidebarNav] a");
    if (!chosen || window.innerWidth >= 768) return;
    setTimeout(() => document.querySelector("[data-testid=stSidebarCollapseButton] button")?.click(), 0);
  });
}
