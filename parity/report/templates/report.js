"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  let parsed;
  const report = () => (parsed ??= JSON.parse($("report").textContent));

  // Format figures as the table does: two digits, and ratios with a multiplication sign.
  const number = (v) => {
    if (v === null || !isFinite(v)) return "NaN/Inf";
    if (v === 0) return "0";
    if (v >= 0.1 && v < 1000) return v.toFixed(v < 1 ? 2 : v < 10 ? 1 : 0);
    const [mantissa, exponent] = v.toExponential(1).split("e");
    return `${mantissa}e${Number(exponent)}`;
  };
  const times = (v) => (v === null || !isFinite(v) ? "∞×" : v < 10 ? `${v.toFixed(1)}×` : v < 1000 ? `${v.toFixed(0)}×` : `${number(v)}×`);
  const largerRatio = (r) => (r.x_floor === null || r.x_floor_max === null ? null : Math.max(r.x_floor, r.x_floor_max));
  const element = (tag, text, className) => {
    const node = document.createElement(tag);
    if (text !== undefined) node.textContent = text;
    if (className) node.className = className;
    return node;
  };

  // The table: sort by a column, filter by name, stage and status.
  const table = $("rows");
  if (table) {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const buttons = [...table.tHead.querySelectorAll("button")];
    const value = (row, column) => {
      const raw = row.cells[column].dataset.v;
      const parsedValue = raw === "inf" ? Infinity : raw === "" || raw === "nan" ? -1 : Number(raw);
      return isNaN(parsedValue) ? raw : parsedValue;
    };
    const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b || 0 : String(a).localeCompare(String(b), undefined, { numeric: true }));
    for (const button of buttons) {
      button.addEventListener("click", () => {
        const head = button.closest("th");
        const column = Number(button.dataset.column);
        const order = head.getAttribute("aria-sort");
        // Numbers sort from the largest, names from the first.
        const first = head.classList.contains("name") || head.classList.contains("text") ? "ascending" : "descending";
        const next = order === null ? first : order === "ascending" ? "descending" : "ascending";
        for (const other of buttons) other.closest("th").removeAttribute("aria-sort");
        head.setAttribute("aria-sort", next);
        const sign = next === "ascending" ? 1 : -1;
        rows.sort((a, b) => sign * compare(value(a, column), value(b, column)) || a.dataset.at - b.dataset.at);
        body.append(...rows);
      });
    }
    const filter = () => {
      const query = $("query").value.trim().toLowerCase();
      let visible = 0;
      for (const row of rows) {
        const keep = row.cells[0].textContent.toLowerCase().includes(query)
          && (!$("stage").value || row.dataset.stage === $("stage").value)
          && (!$("status").value || row.dataset.status === $("status").value);
        row.hidden = !keep;
        visible += keep;
      }
      $("count").textContent = `${visible} of ${rows.length}`;
    };
    for (const id of ["query", "stage", "status"]) $(id).addEventListener("input", filter);
    for (const name of ["isolated", "growth"]) {
      const box = $(`show-${name}`);
      if (!box) continue;
      const apply = () => {
        table.classList.toggle(`hide-${name}`, !box.checked);
        const each = 2 + ($("show-isolated")?.checked ? 1 : 0) + ($("show-growth").checked ? 1 : 0);
        for (const group of table.querySelectorAll("th.group")) group.colSpan = each;
      };
      box.addEventListener("change", apply);
      apply();
    }
    filter();
  }

  // The plots: a cursor and the figures of the comparison point at the pointer or chosen by arrow keys.
  const tip = $("tip");
  const describe = (at, subject) => {
    const stage = report().stages[at];
    const lines = element("table");
    Object.keys(report().subjects).forEach((name, index) => {
      if (subject && subject !== name) return;
      const result = stage.subjects[name];
      const line = lines.insertRow();
      const label = line.insertCell();
      label.append(element("i", undefined, `s${index % 6}`), name);
      for (const text of result ? [number(result.max_abs), times(largerRatio(result)), result.status] : ["missing"]) line.insertCell().textContent = text;
      const isolated = subject && stage.isolated[name];
      if (isolated) {
        const second = lines.insertRow();
        for (const text of ["isolated", number(isolated.max_abs), times(largerRatio(isolated)), isolated.status]) second.insertCell().textContent = text;
      }
    });
    const floor = stage.floor ? `floor ${number(stage.floor.max_abs)}` : "no floor";
    tip.replaceChildren(element("b", stage.name), element("div", `${stage.shape.slice(1).join("×")} · ${floor}`, "dim"), lines);
  };
  for (const plot of document.querySelectorAll("svg.plot[data-columns]")) {
    const columns = plot.dataset.columns.split(" ").map(Number);
    const cursor = plot.querySelector(".cursor");
    const subject = plot.closest(".panel")?.querySelector("figcaption b").textContent;
    let current = -1;
    const hide = () => { tip.hidden = true; cursor.setAttribute("hidden", ""); };
    const show = (at, x, y) => {
      if (at !== current || tip.hidden) describe(at, subject);
      current = at;
      cursor.setAttribute("transform", `translate(${columns[at]} 0)`);
      cursor.removeAttribute("hidden");
      tip.hidden = false;
      const { width, height } = tip.getBoundingClientRect();
      tip.style.left = `${x + 16 + width > innerWidth ? Math.max(4, x - 16 - width) : x + 16}px`;
      tip.style.top = `${Math.min(Math.max(4, y + 12), innerHeight - height - 4)}px`;
    };
    plot.addEventListener("pointermove", (event) => {
      const box = plot.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * plot.viewBox.baseVal.width;
      let nearest = 0;
      columns.forEach((column, at) => { if (Math.abs(column - x) < Math.abs(columns[nearest] - x)) nearest = at; });
      show(nearest, event.clientX, event.clientY);
    });
    plot.addEventListener("pointerleave", hide);
    plot.addEventListener("blur", hide);
    plot.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (event.key === "Escape") hide();
      if (!step) return;
      event.preventDefault();
      const at = Math.min(Math.max(current + step, 0), columns.length - 1);
      const box = plot.getBoundingClientRect();
      show(at, box.left + (columns[at] / plot.viewBox.baseVal.width) * box.width, box.top);
    });
  }

  // The heat map: the error at the position under the pointer.
  const heat = $("heat");
  if (heat) {
    const place = $("heat-at");
    heat.addEventListener("pointermove", (event) => {
      const { spatial, shape } = report().profile;
      const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(heat.getScreenCTM().inverse());
      const [y, x] = [Math.floor(point.y), Math.floor(point.x)];
      if (!(y in spatial) || !(x in spatial[y])) return;
      // A cell of a pooled map covers several positions of the tensor.
      const range = (at, cells, size) => (cells === size ? `${at}` : `${Math.floor((at * size) / cells)}–${Math.floor(((at + 1) * size) / cells) - 1}`);
      place.textContent = `h ${range(y, spatial.length, shape[2])}, w ${range(x, spatial[0].length, shape[3])}: ${number(spatial[y][x])}`;
    });
    heat.addEventListener("pointerleave", () => { place.textContent = "\u00a0"; });
  }

  // The buttons work only with scripts, so the script shows them.
  const copy = $("copy");
  if (copy && navigator.clipboard) {
    copy.hidden = false;
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText($("command").textContent);
      copy.textContent = "copied";
      setTimeout(() => { copy.textContent = "copy"; }, 1500);
    });
  }
  $("download").hidden = false;
  $("download").addEventListener("click", () => {
    const link = element("a");
    const blob = new Blob([JSON.stringify(report(), null, 2)], { type: "application/json" });
    link.href = URL.createObjectURL(blob);
    link.download = "parity-report.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
})();
