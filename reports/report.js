// The table is drawn anew on every sort, so the filter is a style rule, not a loop over rows.
document.addEventListener("click", (event) => {
  const button = event.target.closest(".tg-filter button");
  if (!button) return;
  for (const other of document.querySelectorAll(".tg-filter button")) {
    other.setAttribute("aria-pressed", String(other === button));
  }
  const check = button.dataset.filter;
  document.getElementById("tg-rule").textContent = check
    ? `#results-table tbody:not(:has([data-check="${CSS.escape(check)}"])) { display: none; }`
    : "";
});
