/** What the pages need besides themselves: nothing comes from anywhere else, and nothing is inline. */

export const STYLE = `:root { color-scheme: light dark; --line: #8884; --accent: #0b66c3; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --accent: #7ab8ff; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 44rem; }
header { display: flex; justify-content: space-between; align-items: center; gap: 1rem; margin-bottom: 2rem; }
header strong { font-size: 1.1rem; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .75rem; }
p { margin: 0 0 1rem; }
main.card { border: 1px solid var(--line); border-radius: .75rem; padding: 1.5rem; max-width: 28rem; margin: 10vh auto 0; }
.code { font: 600 2rem/1.3 ui-monospace, monospace; letter-spacing: .1em; text-align: center; margin: 1rem 0; }
.muted { opacity: .75; }
.bad { color: var(--bad); }
.row { display: flex; gap: .75rem; flex-wrap: wrap; margin-top: 1.25rem; }
button, .button { font: inherit; font-weight: 600; padding: .6rem 1rem; border-radius: .5rem; border: 1px solid var(--accent);
  background: var(--accent); color: #fff; cursor: pointer; text-decoration: none; display: inline-block; }
@media (prefers-color-scheme: dark) { button, .button { color: #04121f; } }
button.quiet, .button.quiet { background: transparent; color: inherit; border-color: var(--line); font-weight: 500; }
button.small { padding: .3rem .7rem; font-size: .9rem; }
button:disabled { opacity: .5; cursor: default; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
ul.devices { list-style: none; padding: 0; margin: 0; }
ul.devices li { display: flex; justify-content: space-between; align-items: center; gap: 1rem;
  padding: .8rem 0; border-top: 1px solid var(--line); }
ul.devices strong { display: block; }
ul.devices .muted { overflow-wrap: anywhere; }
form { margin: 0; }
[role=status] { margin: .75rem 0 0; }
[role=status]:empty { margin: 0; }
`;

/** Passkeys need a script; everything else works without. */
export const SCRIPT = `"use strict";
const say = (text, bad) => {
  const place = document.querySelector("[role=status]");
  if (place) { place.textContent = text; place.className = bad ? "bad" : ""; }
};
const toBytes = (text) =>
  Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
const toText = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const ask = async (path, body) => {
  const reply = await fetch(path, {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), credentials: "same-origin",
  });
  const value = await reply.json().catch(() => ({}));
  if (!reply.ok) throw new Error(value.detail ?? "the coordinator answered " + reply.status);
  return value;
};
const listed = (all) => (all ?? []).map((one) => ({ ...one, id: toBytes(one.id) }));
const signIn = async (to) => {
  const options = await ask("/sign-in/passkey/options", { to });
  const made = await navigator.credentials.get({
    publicKey: { ...options, challenge: toBytes(options.challenge), allowCredentials: listed(options.allowCredentials) },
  });
  return ask("/sign-in/passkey", {
    id: made.id, rawId: toText(made.rawId), type: made.type, clientExtensionResults: {},
    response: {
      clientDataJSON: toText(made.response.clientDataJSON),
      authenticatorData: toText(made.response.authenticatorData),
      signature: toText(made.response.signature),
    },
  });
};
const enrol = async (secret) => {
  const options = await ask("/invite/options", { secret });
  const made = await navigator.credentials.create({
    publicKey: {
      ...options, challenge: toBytes(options.challenge), user: { ...options.user, id: toBytes(options.user.id) },
      excludeCredentials: listed(options.excludeCredentials),
    },
  });
  return ask("/invite", {
    secret,
    passkey: {
      id: made.id, rawId: toText(made.rawId), type: made.type, clientExtensionResults: {},
      response: {
        clientDataJSON: toText(made.response.clientDataJSON),
        attestationObject: toText(made.response.attestationObject),
      },
    },
  });
};
const button = document.querySelector("button[data-passkey]");
if (button) {
  if (!window.PublicKeyCredential) { button.disabled = true; say("this browser knows no passkeys", true); }
  button.addEventListener("click", async () => {
    button.disabled = true;
    say("waiting for the passkey …");
    try {
      const { to } = await (button.dataset.passkey === "enrol" ? enrol(location.hash.slice(1)) : signIn(button.dataset.to));
      location.assign(to);
    } catch (error) {
      button.disabled = false;
      say(error.name === "NotAllowedError" ? "no passkey was given; try again" : error.message, true);
    }
  });
}
for (const form of document.querySelectorAll("form[data-sure]"))
  form.addEventListener("submit", (event) => { if (!confirm(form.dataset.sure)) event.preventDefault(); });
`;
