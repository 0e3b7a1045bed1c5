"use strict";

const page = document.getElementById("swagger-ui");

/* Names that Swagger UI gives no control of its own; a text that scrolls takes the keyboard. */
const missing = [
  [".copy-to-clipboard > button", "aria-label", "Copy"],
  [".close-modal", "aria-label", "Close"],
  ["textarea.body-param__text", "aria-label", "Request body"],
  [".parameters input:not([type=checkbox]), .parameters select", "aria-label", null],
  ["pre.microlight", "tabindex", "0"],
];

function nameControls() {
  for (const [selector, attribute, value] of missing) {
    for (const element of page.querySelectorAll(`:is(${selector}):not([${attribute}])`)) {
      const row = element.closest("tr[data-param-name]");
      element.setAttribute(attribute, value ?? row?.dataset.paramName ?? "Value");
    }
  }
}

new MutationObserver(nameControls).observe(page, { childList: true, subtree: true });

SwaggerUIBundle({
  domNode: page,
  url: page.dataset.document,
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  filter: true,
  tryItOutEnabled: true,
  validatorUrl: null, // the default asks a public host to validate the document
  queryConfigEnabled: false, // an address must not name another document
});
