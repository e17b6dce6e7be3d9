import { HOUR, MINUTE, type Millis } from "../../kit/time.js";
import type { Device } from "../device.js";
import type { WaitingMachine } from "../identity/signins.js";
import type { User } from "../identity/user.js";

/** The pages as text. Whatever comes from outside goes through `html`, which escapes it. */

class Markup {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

type Piece = string | number | Markup | readonly Markup[] | undefined;

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};
const escaped = (text: string): string => text.replaceAll(/[&<>"']/g, (letter) => ENTITIES[letter] ?? "");

function html(texts: TemplateStringsArray, ...pieces: readonly Piece[]): Markup {
  const shown = (piece: Piece): string => {
    if (piece === undefined) return "";
    if (piece instanceof Markup) return piece.text;
    return typeof piece === "object" ? piece.map(({ text }) => text).join("") : escaped(String(piece));
  };
  return new Markup(texts.map((text, i) => text + shown(pieces[i])).join(""));
}

function page(title: string, body: Markup): string {
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title} – exitnode</title>
<link rel="stylesheet" href="/web.css">
<script src="/web.js" defer></script>
</head>
<body>
${body}
</body>
</html>
`.text;
}

const card = (title: string, body: Markup): string =>
  page(title, html`<main class="card"><h1>${title}</h1>${body}</main>`);

export type Ways = { readonly passkeys: boolean; readonly provider: string | undefined; readonly to: string };

export function signInPage({ passkeys, provider, to }: Ways): string {
  const none = html`<p>Nobody can sign in here: the coordinator's URL has an IP address, which cannot have passkeys, and
no identity provider is set up.</p>`;
  const byProvider = html`<a class="button" href="/sign-in/oidc?to=${encodeURIComponent(to)}">Sign in with ${provider}</a>`;
  const byPasskey = html`<button data-passkey="sign-in" data-to="${to}"${
    provider === undefined ? undefined : html` class="quiet"`
  }>Sign in with a passkey</button>`;
  if (!passkeys && provider === undefined) return card("Sign in", none);
  return card(
    "Sign in",
    html`<p class="muted">to your network of exit nodes and devices</p>
<div class="row">${provider === undefined ? undefined : byProvider}${passkeys ? byPasskey : undefined}</div>
<p role="status"></p>`,
  );
}

/** The secret is in the fragment: the script reads it. */
export const invitePage = (): string =>
  card(
    "Welcome",
    html`<p>You were invited to a network of exit nodes and devices. Make a passkey: from then on, your finger, face or
PIN on this device is all you need to sign in.</p>
<div class="row"><button data-passkey="enrol">Make a passkey</button></div>
<p role="status"></p>`,
  );

export const codePage = (user: User): string =>
  card(
    "Let a device in",
    html`<p>Type the code that the device shows.</p>
<form method="get" action="/device"><label>Code <input name="code" autocomplete="off" required maxlength="32"></label>
<div class="row"><button>Go on</button><a class="button quiet" href="/">Cancel</a></div></form>
<p class="muted">You are signed in as ${user.login}.</p>`,
  );

export function confirmPage(machine: WaitingMachine, user: User, csrf: string, now: Millis): string {
  return card(
    `${machine.name} wants to join`,
    html`<p>It shows this code:</p>
<p class="code">${machine.code}</p>
<p>It asked from ${machine.remote === "" ? "this machine" : machine.remote}, ${roughly(now - machine.atMs)} ago. Let it in only if you have it before you and it shows the same code: it becomes yours, ${user.login}, and reaches
what you may reach.</p>
<form method="post" action="/device"><input type="hidden" name="csrf" value="${csrf}">
<input type="hidden" name="code" value="${machine.code}">
<div class="row"><button name="do" value="confirm">Let it in</button>
<button class="quiet" name="do" value="refuse">Refuse it</button></div></form>`,
  );
}

export const donePage = (title: string, words: string): string =>
  card(title, html`<p>${words}</p><div class="row"><a class="button quiet" href="/">My devices</a></div>`);

export const failurePage = (message: string, advice: string | undefined): string =>
  card(
    "That did not work",
    html`<p class="bad">${message}</p>${advice === undefined ? undefined : html`<p>${advice}</p>`}
<div class="row"><a class="button quiet" href="/">Back</a></div>`,
  );

export type ShownDevice = { readonly device: Device; readonly online: boolean; readonly waiting: string | undefined };

export function devicesPage(user: User, devices: readonly ShownDevice[], csrf: string, now: Millis): string {
  const items = devices.map(
    ({ device, online, waiting }) => html`<li><div><strong>${device.name}</strong>
<span class="muted">${device.ipv4} · ${stateOf(device, online, waiting, now)}</span></div>
<form method="post" action="/devices/${device.id}/revoke" data-sure="Shut ${device.name} out for good?">
<input type="hidden" name="csrf" value="${csrf}"><button class="quiet small">Shut out</button></form></li>`,
  );
  return page(
    "My devices",
    html`<header><strong>exitnode</strong>
<form method="post" action="/sign-out"><input type="hidden" name="csrf" value="${csrf}">
<span class="muted">${user.login}</span> <button class="quiet small">Sign out</button></form></header>
<main><h1>My devices</h1>
${items.length === 0 ? html`<p>None yet. On a machine of yours: <code>exitnode up --login</code> and this page's address.</p>` : undefined}
<ul class="devices">${items}</ul>
<div class="row"><a class="button quiet" href="/device">Let a device in</a></div></main>`,
  );
}

function stateOf(device: Device, online: boolean, waiting: string | undefined, now: Millis): string {
  if (waiting === "approval") return "waits for an administrator";
  if (waiting !== undefined) return "needs a sign-in: run exitnode up there";
  const expiry =
    device.keyExpiresAtMs === undefined ? "" : `, to be signed in again in ${roughly(device.keyExpiresAtMs - now)}`;
  if (online) return `online${expiry}`;
  const kind = device.app === undefined ? "" : "WireGuard app, ";
  const seen = device.lastSeenAtMs === undefined ? "never seen" : `seen ${roughly(now - device.lastSeenAtMs)} ago`;
  return `${kind}${seen}${expiry}`;
}

/** As a person would say it. */
function roughly(duration: Millis): string {
  const several = (unit: Millis, name: string): string => {
    const count = Math.round(duration / unit);
    return `${count} ${name}${count === 1 ? "" : "s"}`;
  };
  if (duration < MINUTE) return "less than a minute";
  if (duration < HOUR) return several(MINUTE, "minute");
  return duration < 48 * HOUR ? several(HOUR, "hour") : several(24 * HOUR, "day");
}
