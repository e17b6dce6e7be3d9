import * as z from "zod";
import { keyPairOf } from "../kit/crypto.js";
import { asFailure, Failure } from "../kit/failure.js";
import { KEY_BYTES, keyOf } from "../kit/key.js";
import { type AddedApp, addedApp, appRequest } from "../wire/adminapi.js";
import { lockKeyOf, signStatement } from "../wire/lock.js";
import { parseWith } from "../wire/schema.js";
import { callCoordinator } from "./admin.js";
import { appConfig } from "./appconfig.js";
import type { Call, Outcome } from "./command.js";

/**
 * Lets a WireGuard app in. Its key pair and its lock key are made here: the private halves are in the configuration
 * that is shown, or nowhere.
 */
export async function addDevice(call: Call): Promise<Outcome> {
  const { options, parts } = call;
  const out = options.out === undefined ? undefined : String(options.out);
  if (out !== undefined && options.qr === true)
    throw new Failure("usage", "a configuration goes to the screen as a QR code or into a file, not both");
  if (out !== undefined && (await parts.files.read(out)) !== undefined)
    throw new Failure("file-exists", `${out} is there already`, { advice: "give another name with --out" });
  const onlyNetwork = options.onlyNetwork === true;
  const pair = keyPairOf(parts.random(KEY_BYTES));
  const publicKey = keyOf(pair.publicKey);
  const own = lockKeyOf(parts.random(KEY_BYTES));
  const wanted = {
    name: call.args[0] ?? "",
    ...{ publicKey, onlyNetwork, tags: options.tag ?? [] },
    ...(options.exit === undefined ? {} : { exit: options.exit }),
    ...(options.endpoint === undefined ? {} : { endpoint: options.endpoint }),
    ...(options.user === undefined ? {} : { user: options.user }),
    lock: { key: own.key, statement: signStatement(own, { publicKey }) },
  };
  const request = parseWith(appRequest, wanted, "what was asked for", "usage");
  const added = await callCoordinator(call, addedApp, "POST", "/devices", request);
  const config = appConfig(added, keyOf(pair.privateKey), onlyNetwork);
  const { tunnel: _, ...device } = added;
  if (out !== undefined) {
    await keep(call, out, config, added);
    return { value: { device, file: out }, text: `${out} is for the WireGuard app. ${words(added)}` };
  }
  if (options.qr !== true) {
    // What is on stdout is the configuration, to be piped into a file or another program.
    if (!call.json) parts.say(words(added));
    return { value: { device, config }, text: config };
  }
  const { qrText } = await import("./qrtext.js");
  const picture = qrText(config, process.stdout.isTTY === true);
  return {
    value: { device, config },
    text: `${picture}\n\nIn the WireGuard app: +, then "Scan from QR code". ${words(added)}`,
  };
}

/** A configuration that cannot be kept is of a device that nobody could ever be: it is taken back. */
async function keep(call: Call, path: string, config: string, { id, name }: AddedApp): Promise<void> {
  try {
    await call.parts.files.write(path, config, { mode: 0o600 });
  } catch (cause) {
    await callCoordinator(call, z.unknown(), "DELETE", `/devices/${encodeURIComponent(id)}`);
    throw new Failure("file-unwritable", `cannot write ${path}: ${asFailure(cause).message}; ${name} was not added`, {
      cause,
    });
  }
}

function words({ name, app, waiting, tunnel }: AddedApp): string {
  const route = `${name} goes out through ${app?.exit}, which it dials at ${app?.endpoint}.`;
  const once = `Its key is shown this once; should it get lost: exitnode device remove ${name}, and add it again.`;
  const waits =
    waiting === "lock"
      ? [`It waits for a trusted device's signature, on one: exitnode lock sign ${name}`]
      : waiting === "approval"
        ? [`It waits for: exitnode device approve ${name}`]
        : [];
  const names =
    tunnel.resolvers.length > 0 ? [] : [`${app?.exit} has told of no resolver: set one in the app, under DNS servers.`];
  return [route, once, ...names, ...waits].join("\n");
}
