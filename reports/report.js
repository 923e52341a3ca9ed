// pytest-html draws its table anew on every sort: the filters are applied again each time.
(() => {
  const state = { check: "", verdict: "", words: [] };
  const table = () => document.getElementById("results-table");

  const matches = (row) => {
    const cell = row.querySelector(".col-check");
    if (!cell) return true;
    if (state.verdict && cell.dataset.verdict !== state.verdict) return false;
    if (!state.words.length) return true;
    const text = [...row.querySelectorAll(".col-testId, .col-check")].map((cell) => cell.textContent).join(" ").toLowerCase();
    return state.words.every((word) => text.includes(word));
  };

  const apply = () => {
    document.getElementById("tg-rule").textContent = state.check
      ? `#results-table tbody:not(:has([data-check="${CSS.escape(state.check)}"])) { display: none; }`
      : "";
    let shown = 0, all = 0;
    for (const row of document.querySelectorAll("#results-table tbody.results-table-row")) {
      const fits = matches(row);
      row.classList.toggle("tg-hidden", !fits);
      all += 1;
      if (fits && (!state.check || row.querySelector(`[data-check="${CSS.escape(state.check)}"]`))) shown += 1;
    }
    const status = document.getElementById("tg-shown");
    if (status) status.textContent = shown === all ? "" : `${shown} of ${all} rows`;
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest(".tg-filter button");
    if (!button) return;
    for (const other of document.querySelectorAll(".tg-filter button")) {
      other.setAttribute("aria-pressed", String(other === button));
    }
    state.check = button.dataset.filter;
    apply();
  });
  const changed = (event) => {
    if (event.target.id === "tg-search") state.words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    else if (event.target.id === "tg-verdict") state.verdict = event.target.value;
    else return;
    apply();
  };
  document.addEventListener("input", changed);
  document.addEventListener("change", changed);
  document.addEventListener("keydown", (event) => {
    const search = document.getElementById("tg-search");
    if (event.key === "/" && search && !/INPUT|SELECT|TEXTAREA/.test(event.target.tagName)) {
      event.preventDefault();
      search.focus();
    }
  });
  document.addEventListener("DOMContentLoaded", () => {
    // The environment is of interest last.
    for (const id of ["environment-header", "environment"]) {
      const part = document.getElementById(id);
      if (part) document.body.append(part);
    }
    if (table()) new MutationObserver(apply).observe(table(), { childList: true });
  });
})();
