"use strict";
// The address bar follows the form, so that every view can be sent to somebody.
(() => {
  const form = document.getElementById("ask");
  const pack = async (text) => {
    const stream = new Blob([text]).stream().pipeThrough(new CompressionStream("deflate"));
    const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
    let letters = "";
    for (const byte of bytes) letters += String.fromCharCode(byte);
    return btoa(letters).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
  };
  const packed = async (area) => {
    const target = document.getElementById(`packed-${area.dataset.pack}`);
    target.value = area.value.trim() ? await pack(area.value) : "";
  };
  const query = () => {
    const kept = [...new FormData(form)].filter(([, value]) => typeof value === "string" && value.trim() !== "");
    return new URLSearchParams(kept).toString();
  };
  for (const slider of form.querySelectorAll("input[type=range]")) {
    slider.addEventListener("input", () => { document.getElementById(slider.dataset.for).value = slider.value; });
  }
  for (const file of form.querySelectorAll("input[type=file]")) {
    file.addEventListener("change", async (event) => {
      event.stopPropagation();
      const area = document.getElementById(file.dataset.into);
      area.value = await file.files[0].text();
      area.dispatchEvent(new Event("change", { bubbles: true }));
    });
  }
  for (const area of form.querySelectorAll("[data-pack]")) {
    area.addEventListener("change", async (event) => {
      event.stopPropagation();
      await packed(area);
      window.location.search = query();
    });
    packed(area);
  }
  for (const select of form.querySelectorAll("[data-reload]")) {
    select.addEventListener("change", (event) => {
      event.stopPropagation();
      if (select.value) window.location.search = select.value;
    });
  }
  // An answer that is no longer wanted is no error; one that does not come has an event of its own.
  htmx.logger = (_, name, detail) => {
    if (name === "htmx:sendAbort" || name === "htmx:afterRequest") delete detail.error;
  };
  document.body.addEventListener("htmx:configRequest", (event) => {
    const asked = event.detail.formData;
    for (const name of new Set(asked.keys())) {
      const kept = asked.getAll(name).filter((value) => value !== "");
      asked.delete(name); // all of that name: a comparison has several sides
      for (const value of kept) asked.append(name, value);
    }
    if (event.detail.elt === form) history.replaceState(null, "", `?${query()}`);
  });
})();
