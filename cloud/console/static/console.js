// Times in the viewer's zone, and whether the page is live. Everything works without this.
(() => {
  "use strict";
  const times = new Intl.DateTimeFormat(undefined, { dateStyle: "short", timeStyle: "medium" });
  const localise = (root) => {
    for (const time of root.querySelectorAll("time[datetime]")) {
      const local = times.format(new Date(time.dateTime));
      if (time.textContent !== local) time.textContent = local;
    }
  };
  const say = (text) => {
    const state = document.getElementById("live-state");
    if (state && state.textContent !== text) state.textContent = text;
  };
  localise(document);
  document.addEventListener("htmx:after:swap", () => localise(document));
  document.addEventListener("htmx:sse:after:message", () => localise(document));
  document.addEventListener("htmx:sse:after:connection", () => say("live"));
  const lost = () =>
    say(`reconnecting; as of ${new Date().toLocaleTimeString()}`);
  document.addEventListener("htmx:sse:error", lost);
  document.addEventListener("htmx:sse:close", lost);
})();
