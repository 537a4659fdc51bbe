// A report: its lines can be hovered and its numbers copied. Nothing is asked of any server.
"use strict";

const drawn = [...document.querySelectorAll("[data-lines]")].map((place) => {
  const plot = document.createElement("div");
  place.append(plot);
  place.classList.add("drawn");
  return { plot, ...JSON.parse(place.dataset.lines) };  // lines, columns
});
const drawAll = () => drawn.forEach((each) => drawLines(each, each.lines, each.columns));

for (const numbers of document.querySelectorAll(".numbers")) {
  const title = numbers.closest("figure").querySelector("strong").textContent;
  numbers.querySelector("summary").after(copying(() => numbers.querySelector("table"), title));
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
addEventListener("resize", drawAll);
drawAll();
