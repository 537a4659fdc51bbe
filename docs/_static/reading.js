// What is wider or higher than its place scrolls by itself: the keyboard has to reach it.
const BOXES = ".highlight pre, div.math, .table-wrapper, .sidebar-scroll, .toc-scroll";
function reachable() {
  for (const box of document.querySelectorAll(BOXES)) {
    const more = box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight + 1;
    if (more) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
}
// The two sides of a page are told apart by name.
function named() {
  document.querySelector(".sidebar-drawer")?.setAttribute("aria-label", "All pages");
  document.querySelector(".toc-drawer")?.setAttribute("aria-label", "This page");
}
window.addEventListener("load", () => { named(); reachable(); });
window.addEventListener("resize", reachable);
