import { Failure } from "../kit/failure.js";
import type { Key } from "../kit/key.js";
import { lockAnswer, lockRecordAnswer } from "../wire/agentsocket.js";
import { fingerprintOf, mapLock, SHUT_OUT_MAX, signerOf, TRUSTED_MAX, type Trust } from "../wire/lock.js";
import { callCoordinator } from "./admin.js";
import { askLock } from "./agentclient.js";
import type { Call, Outcome } from "./command.js";
import {
  handIn,
  isSignable,
  openTrustedDesk,
  type Signable,
  signableIn,
  signaturesFor,
  standingIn,
} from "./lockview.js";

export async function signDevices(call: Call): Promise<Outcome> {
  const { args } = call;
  if (call.options.fingerprint !== undefined && args.length > 1)
    throw new Failure("usage", `expected one device with --fingerprint, got ${args.length}`);
  const { trust, devices } = await openTrustedDesk(call);
  const asked = args.map((name) => signableIn(devices, name));
  const waiting = asked.filter((device) => !["trusted", "signed"].includes(standingIn(trust, device)));
  const strange = waiting.find((device) => standingIn(trust, device) === "other-keys");
  if (strange !== undefined)
    throw new Failure(
      "lock-other-keys",
      `the coordinator shows keys for ${strange.name} that it has not signed itself`,
      {
        advice: `exitnode lock status    (on ${strange.name}); if it says nothing of that, the coordinator is not to be trusted`,
      },
    );
  for (const device of waiting) await compare(call, device);
  const shutOut = without(trust.shutOut, waiting);
  if (shutOut.length < trust.shutOut.length) await putRecord(call, trust, { shutOut });
  await handIn(call, await signaturesFor(call, trust.lock, waiting));
  const already = asked.filter((device) => !waiting.includes(device));
  const text = [
    ...(waiting.length === 0 ? [] : [`signed, and let in by the others: ${namesOf(waiting)}`]),
    ...(already.length === 0 ? [] : [`signed already: ${namesOf(already)}`]),
  ];
  return { value: { signed: valuesOf(waiting), already: valuesOf(already) }, text: text.join("\n") };
}

export async function trustDevice(call: Call): Promise<Outcome> {
  const { trust, devices } = await openTrustedDesk(call);
  const device = signableIn(devices, call.args[0] ?? "");
  const { key } = device.lock;
  if (trust.keys.includes(key)) return outcome(trust, `${device.name} is trusted already`);
  await compare(call, device);
  const after = await putRecord(call, trust, {
    keys: [...trust.keys, key],
    shutOut: without(trust.shutOut, [device]),
  });
  return outcome(after, `${device.name} is trusted: it can sign for other devices, and say who else is trusted`);
}

export async function distrustDevice(call: Call): Promise<Outcome> {
  const { own, trust, devices } = await openTrustedDesk(call);
  const [wanted = ""] = call.args;
  // A device that was removed is known by nothing else any more.
  const key = trust.keys.find((one) => fingerprintOf(one) === wanted) ?? signableIn(devices, wanted).lock.key;
  if (!trust.keys.includes(key)) return outcome(trust, `${wanted} is not trusted anyway`);
  if (key === own.key)
    throw new Failure("lock-own-trust", "this device is the one that signs: it does not distrust itself", {
      advice:
        "on another trusted device: exitnode lock distrust " +
        `${wanted}\nif there is none: exitnode lock trust <device>, or exitnode lock disable`,
    });
  const keys = trust.keys.filter((one) => one !== key);
  const hanging = devices.filter(isSignable).filter((device) => signerIn(trust, device) === key);
  if (call.options.shutOut === true) {
    const after = await putRecord(call, trust, { keys, shutOut: [...trust.shutOut, key] });
    const waiting = hanging.filter((device) => standingIn(after, device) === "unsigned");
    const text = [
      `${wanted} is shut out`,
      ...(waiting.length === 0 ? [] : [`signed by it, and out until they are signed anew: ${namesOf(waiting)}`]),
      `next: exitnode device revoke ${wanted}`,
    ];
    return outcome(after, text.join("\n"), { waiting: valuesOf(waiting) });
  }
  const resigned = devices
    .filter(isSignable)
    .filter(
      (device) => device.lock.key === key || (hanging.includes(device) && standingIn(trust, device) === "signed"),
    );
  // Before the record: so that nobody is out in between.
  await handIn(call, await signaturesFor(call, trust.lock, resigned));
  const after = await putRecord(call, trust, { keys });
  const text = `${wanted} signs no more; signed by this device now: ${namesOf(resigned) || "nothing"}`;
  return outcome(after, text, { signed: valuesOf(resigned) });
}

export async function shutOutDevice(call: Call): Promise<Outcome> {
  const { trust, devices } = await openTrustedDesk(call);
  const [wanted = ""] = call.args;
  const shown = devices.filter(isSignable).find(({ lock }) => fingerprintOf(lock.key) === wanted);
  const { name, lock } = shown ?? signableIn(devices, wanted);
  if (trust.keys.includes(lock.key))
    throw new Failure("lock-trusted", `${name} is one of the trusted devices`, {
      advice: `exitnode lock distrust ${name} --shut-out`,
    });
  const after = trust.shutOut.includes(lock.key)
    ? trust
    : await putRecord(call, trust, { shutOut: [...trust.shutOut, lock.key] });
  return outcome(after, `${name} (${fingerprintOf(lock.key)}) is shut out, until: exitnode lock sign ${name}`);
}

/** The next record, at the coordinator and then in force here. */
async function putRecord(call: Call, trust: Trust, change: Partial<Pick<Trust, "keys" | "shutOut">>): Promise<Trust> {
  const { paths } = call.parts;
  const next: Trust = { ...trust, ...change, version: trust.version + 1 };
  const { lock, version, secretHash, keys, shutOut } = next;
  if (keys.length > TRUSTED_MAX || shutOut.length > SHUT_OUT_MAX)
    throw new Failure(
      "lock-full",
      `a lock holds ${TRUSTED_MAX} trusted devices and ${SHUT_OUT_MAX} that are shut out`,
      {
        advice: "exitnode lock disable, then: exitnode lock enable",
      },
    );
  const request = {
    ...{ do: "lock-record" as const, lock, version, secretHash },
    ...{ keys: [...keys], shutOut: [...shutOut] },
  };
  const { record } = await askLock(paths, request, lockRecordAnswer);
  await callCoordinator(call, mapLock, "POST", "/lock", { record });
  await askLock(paths, { do: "lock-take", records: [record] }, lockAnswer);
  return next;
}

/**
 * The key a coordinator shows under a name need not be that device's: somebody looks at the device itself, or says what
 * it shows.
 */
async function compare(call: Call, { name, lock }: Signable): Promise<void> {
  const { options, parts, signal } = call;
  const fingerprint = fingerprintOf(lock.key);
  if (typeof options.fingerprint === "string") {
    if (options.fingerprint.toLowerCase() === fingerprint) return;
    throw new Failure(
      "lock-fingerprint-differs",
      `the coordinator shows ${fingerprint} for ${name}, not ${options.fingerprint}: nothing was signed`,
      {
        advice: `exitnode lock status    (on ${name}: if it shows what you typed, the coordinator is not to be trusted)`,
      },
    );
  }
  if (options.yes === true) return;
  const question = `does \`exitnode lock status\` on ${name} show ${fingerprint}?`;
  if (parts.interactive && (await (await import("../sys/prompt.js")).terminalPrompt(signal).confirm(question))) return;
  throw new Failure("confirmation-needed", `nobody has confirmed that ${name} shows ${fingerprint}`, {
    advice: `exitnode lock status    (on ${name}), then here with --fingerprint and what it shows`,
  });
}

const outcome = ({ version, keys }: Trust, text: string, more: Readonly<Record<string, unknown>> = {}): Outcome => ({
  value: { version, trusted: keys.map(fingerprintOf), ...more },
  text,
});

const without = (keys: readonly Key[], devices: readonly Signable[]): Key[] =>
  keys.filter((key) => !devices.some(({ lock }) => lock.key === key));

const signerIn = (trust: Trust, { lock }: Signable): Key | undefined =>
  lock.signature === undefined ? undefined : signerOf(trust.lock, lock.key, lock.signature);

const valuesOf = (devices: readonly Signable[]) =>
  devices.map(({ name, lock }) => ({ name, fingerprint: fingerprintOf(lock.key) }));

const namesOf = (devices: readonly Signable[]): string => devices.map(({ name }) => name).join(", ");
