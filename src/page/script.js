"use strict";
// Puts what the server rendered anew into its place. While the tab is hidden nothing is asked for.
(() => {
  const line = document.getElementById("line");
  let source = null;
  let lost = null;

  const say = (text) => {
    line.textContent = text;
    line.hidden = text === "";
  };

  // Keeps the keyboard where it was, if what it was on is still there.
  const reachable = "a, input, select, button, [tabindex]";
  const put = (element, html) => {
    const focused = element.contains(document.activeElement) ? document.activeElement : null;
    const links = focused && [...element.querySelectorAll(reachable)].indexOf(focused);
    const typed = focused?.value;
    const log = element.querySelector(".log");
    const atEnd = log && log.scrollHeight - log.scrollTop - log.clientHeight < 8;
    const scrolled = log && log.scrollTop;
    element.innerHTML = html;
    const now = element.querySelector(".log");
    if (now && log) now.scrollTop = atEnd ? now.scrollHeight : scrolled;
    const again = focused && element.querySelectorAll(reachable)[links];
    if (again && typed !== undefined) again.value = typed;
    again?.focus({ preventScroll: true });
  };

  // The page has got parts that it did not have.
  const renew = async () => {
    const answer = await fetch(location.href);
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    put(document.getElementById("main"), page.getElementById("main").innerHTML);
  };

  const open = () => {
    if (source || document.hidden) return;
    source = new EventSource("/events?of=" + encodeURIComponent(location.pathname));
    source.onopen = () => {
      clearTimeout(lost);
      say("");
    };
    source.onmessage = (event) => {
      for (const [id, html] of Object.entries(JSON.parse(event.data))) {
        const element = document.getElementById(id);
        if (!element) return renew();
        put(element, html);
      }
    };
    source.onerror = () => {
      const closed = source.readyState === EventSource.CLOSED;
      clearTimeout(lost);
      lost = setTimeout(() => say("No connection to the director: this is how it stood."), closed ? 0 : 3000);
      if (closed) close();
    };
  };

  const close = () => {
    source?.close();
    source = null;
  };

  for (const log of document.querySelectorAll(".log")) log.scrollTop = log.scrollHeight;
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);
  open();
})();
