/* What pages do with scripts besides htmx: copy commands, move by keys, show local times, let keys scroll tables. They work without. */
"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const said = document.getElementById("said"), help = document.getElementById("help");
  const usesKeys = document.querySelector("[data-keys]");

  const copy = async (button) => {
    await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
    said.textContent = "Copied";
    button.classList.add("done");
    setTimeout(() => { button.classList.remove("done"); said.textContent = ""; }, 2000);
  };

  const two = (number) => String(number).padStart(2, "0");
  const local = (at) => `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}`;

  const scrolls = new ResizeObserver((entries) => entries.forEach(({ target }) => {
    if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  }));
  const improve = (root) => {
    all(".scroll", root).forEach((each) => scrolls.observe(each));
    all("[data-copy]", root).forEach((button) => { button.hidden = !navigator.clipboard; });
    all("time", root).forEach((time) => {
      time.title = time.dateTime.replace("T", " ").replace("Z", " UTC");
      time.textContent = local(new Date(time.dateTime));
    });
  };

  const rows = () => all("table[data-rows] tbody tr").map((row) => row.querySelector("a") || row.querySelector("input")).filter(Boolean);
  const move = (by) => {
    const found = rows(), row = document.activeElement.closest("tr");
    const at = found.findIndex((each) => each.closest("tr") === row);
    (found[at < 0 ? (by > 0 ? 0 : found.length - 1) : at + by] || document.activeElement).focus();
  };
  const copier = (root) => root?.querySelector("[data-copy]:not([hidden])");
  const keys = {
    "/": () => document.querySelector("input[type=search]")?.focus(),
    j: () => move(1),
    k: () => move(-1),
    x: () => document.activeElement.closest("tr")?.querySelector("input[type=checkbox]")?.click(),
    c: () => (copier(document.activeElement.closest("tr")) || copier(document))?.click(),
    "?": () => help.showModal(),
  };

  // Browsers may forbid to store anything.
  const stored = (() => { try { return localStorage; } catch { return null; } })();
  usesKeys.checked = stored?.getItem("keys") !== "off";
  usesKeys.addEventListener("change", () => stored?.setItem("keys", usesKeys.checked ? "on" : "off"));
  all("[data-zone]").forEach((each) => { each.textContent = "Times are local; point at one to see it in UTC."; });
  all("[data-help]").forEach((button) => { button.hidden = false; button.addEventListener("click", keys["?"]); });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) copy(button);
  });
  document.addEventListener("keydown", (event) => {
    const types = event.target.matches("input:not([type=checkbox]), textarea, select");
    if (types || event.ctrlKey || event.altKey || event.metaKey || !usesKeys.checked || help.open) return;
    if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
  });
  document.addEventListener("htmx:load", ({ target }) => {
    improve(target);
    if (target.id === "results") said.textContent = `${all("tbody th", target).length} on this page`; // is read out
  });
  improve(document);
})();
