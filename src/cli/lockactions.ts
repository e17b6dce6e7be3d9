import { join } from "node:path";
import * as z from "zod";
import { toHex } from "../kit/bytes.js";
import { Failure } from "../kit/failure.js";
import type { DeviceInfo } from "../wire/adminapi.js";
import { DEVICE_FILES } from "../wire/agentconfig.js";
import { type LockAnswer, lockAnswer, lockRecordAnswer } from "../wire/agentsocket.js";
import {
  fingerprintOf,
  formatLockSecret,
  LOCK_ID_BYTES,
  LOCK_SECRET_BYTES,
  lockSecretHash,
  mapLock,
  parseLockSecret,
  signerOf,
  type Trust,
} from "../wire/lock.js";
import { callCoordinator } from "./admin.js";
import { askLock, notRunning, tryAgentStatus, tryAskLock } from "./agentclient.js";
import type { Call, Outcome } from "./command.js";
import { readConfig } from "./config.js";
import { devicesOf, handIn, isSignable, lockOf, openDesk, signaturesFor, standingIn, trustIn } from "./lockview.js";
import { requireRoot } from "./root.js";
import { fold, labelled, renderTable, SCREEN_COLUMNS } from "./table.js";

/** This device's view and, on an administrator's machine, the coordinator's: each where there is one. */
export async function lockStatus(call: Call): Promise<Outcome> {
  const { paths, files } = call.parts;
  const [own, status] = await Promise.all([tryAskLock(paths), tryAgentStatus(paths)]);
  const { coordinator } = await readConfig(files, paths.config);
  const isAdministrator = coordinator !== undefined;
  if (own === undefined && !isAdministrator) throw notRunning();
  const there = isAdministrator ? { lock: await lockOf(call), devices: await devicesOf(call) } : undefined;
  const trust = own?.records.length ? trustIn(own) : there && trustIn(there.lock);
  const devices = there?.devices ?? [];
  const device =
    own === undefined ? undefined : { name: status?.name ?? "this device", fingerprint: fingerprintOf(own.key) };
  const waiting = trust === undefined ? [] : devices.filter((one) => waits(trust, one));
  const value = {
    on: trust !== undefined,
    ...(trust === undefined ? {} : { version: trust.version, trusted: trust.keys.map(fingerprintOf) }),
    ...(device === undefined || own === undefined ? {} : { device: { ...device, trusted: isTrusted(trust, own) } }),
    devices: devices.map((one) => describe(trust, one, devices)),
    ...(own?.believed === true ? { believed: true } : {}),
    ...(own?.trouble === undefined ? {} : { trouble: own.trouble }),
  };
  const head = [
    ["device lock", trust === undefined ? "off: the coordinator says who gets in" : `on, version ${trust.version}`],
    ...(device === undefined || own === undefined
      ? []
      : [["this device", `${device.name}, ${device.fingerprint}${isTrusted(trust, own) ? ", trusted" : ""}`]]),
    ...(trust === undefined
      ? []
      : labelled(
          "trusted",
          trust.keys.map((key) => namedKey(key, devices)),
        )),
    ...(own?.believed === true ? labelled("believed", [BELIEVED]) : []),
    ...(own?.trouble === undefined ? [] : labelled("warning", [own.trouble])),
    ...(status?.waiting === "lock"
      ? labelled("waits", ["for a signature; on a trusted device:", `exitnode lock sign ${status.name}`])
      : []),
  ];
  const rows = trust === undefined ? [] : devices.map((one) => rowOf(trust, one, devices));
  const [first] = waiting.filter(isSignable);
  const next =
    trust === undefined
      ? ["exitnode lock enable    (on a machine that is in the network and stays yours)"]
      : first === undefined
        ? []
        : fold(
            `next: compare its fingerprint with what \`exitnode lock status\` shows on ${first.name}; then, on a trusted device: exitnode lock sign ${first.name}`,
            SCREEN_COLUMNS,
          );
  const text = [
    renderTable(head),
    rows.length === 0 ? "" : renderTable([["DEVICE", "STANDING", "FINGERPRINT"], ...rows]),
    next.join("\n"),
  ];
  return { value, text: text.filter((part) => part !== "").join("\n\n") };
}

export async function enableLock(call: Call): Promise<Outcome> {
  const { paths, random } = call.parts;
  const { own, trust: before, devices } = await openDesk(call);
  if (before !== undefined)
    throw new Failure("lock-on", `this network has a device lock already, version ${before.version}`, {
      advice: "exitnode lock status",
    });
  const self = devices.find(({ lock }) => lock?.key === own.key);
  if (self === undefined)
    throw new Failure("lock-key-unknown", "the coordinator does not know this device's lock key", {
      advice: "exitnode status    (is this device connected to the coordinator that is administered from here?)",
    });
  const others = devices.filter((one) => one !== self);
  const signed = others.filter(isSignable);
  const left = others.filter((one) => !isSignable(one)).map(({ name }) => name);
  await confirmEnable(
    call,
    self.name,
    signed.map(({ name }) => name),
    left,
  );

  const secret = toHex(random(LOCK_SECRET_BYTES));
  const lock = toHex(random(LOCK_ID_BYTES));
  const request = {
    do: "lock-record" as const,
    lock,
    version: 1,
    secretHash: lockSecretHash(secret),
    keys: [own.key],
    shutOut: [],
  };
  const { record } = await askLock(paths, request, lockRecordAnswer);
  const signatures = await signaturesFor(call, lock, signed);
  // Those of a home come with the record: nobody is out in between.
  const atOnce = signatures.slice(0, AT_ONCE_MAX);
  await callCoordinator(call, mapLock, "POST", "/lock", { record, signatures: atOnce });
  await askLock(paths, { do: "lock-take", records: [record] }, lockAnswer);
  await handIn(call, signatures.slice(AT_ONCE_MAX));

  const shown = formatLockSecret(secret);
  return {
    value: {
      version: 1,
      lock,
      trusted: [fingerprintOf(own.key)],
      signed: signed.map(({ name }) => name),
      left,
      secret: shown,
    },
    text: [
      `the device lock is on: ${self.name} is trusted, ${signed.length} other device${signed.length === 1 ? "" : "s"} signed`,
      ...(left.length === 0 ? [] : [`shut out, for their agents are older ones: ${left.join(", ")}`]),
      "",
      `  ${shown}`,
      "",
      "This secret ends the lock when no trusted device is left. It is shown this once: write it down, on paper.",
      "next: let a second device sign, in case this one is lost: exitnode lock trust <device>",
    ].join("\n"),
  };
}

const BELIEVED =
  "not verified: the coordinator showed this list first; compare the fingerprints above with those on a trusted device";

/** The coordinator takes as many with the record. */
const AT_ONCE_MAX = 200;

export async function disableLock(call: Call): Promise<Outcome> {
  const { options, parts, signal } = call;
  const { secretFromStdin, terminalPrompt } = await import("../sys/prompt.js");
  if (options.secretStdin !== true && !parts.interactive)
    throw new Failure("confirmation-needed", "nobody is there to type the secret", {
      advice: "exitnode lock disable --secret-stdin < FILE",
    });
  const text =
    options.secretStdin === true
      ? await secretFromStdin()
      : await terminalPrompt(signal).secret("the secret of the lock");
  const secret = parseLockSecret(text);
  if (secret === undefined)
    throw new Failure("lock-secret-invalid", "the secret has eight groups of four digits or letters from a to f");
  await callCoordinator(call, z.unknown(), "POST", "/lock/end", { secret });
  return { value: { on: false }, text: "the device lock is off: the coordinator says who gets in" };
}

export async function forgetLock(call: Call): Promise<Outcome> {
  const { options, parts, signal } = call;
  const question = "forget who is trusted? This machine then believes what the coordinator says next";
  const isSure = async (): Promise<boolean> =>
    parts.interactive && (await (await import("../sys/prompt.js")).terminalPrompt(signal).confirm(question));
  if (options.yes !== true && !(await isSure()))
    throw new Failure(
      "confirmation-needed",
      "this machine would believe anew whatever the coordinator says of the lock",
      {
        advice: "exitnode lock forget --yes",
      },
    );
  if ((await tryAskLock(parts.paths)) === undefined) {
    requireRoot("lock forget");
    await parts.files.remove(join(parts.paths.var, DEVICE_FILES.lock));
  } else await askLock(parts.paths, { do: "lock-forget" }, lockAnswer);
  return { value: { forgotten: true }, text: "forgotten: this machine believes the next device lock it hears of" };
}

async function confirmEnable(
  call: Call,
  self: string,
  signed: readonly string[],
  left: readonly string[],
): Promise<void> {
  const { options, parts, signal } = call;
  const some = (names: readonly string[]): string => names.join(", ") || "none";
  parts.say(`trusted: ${self}; signed by it: ${some(signed)}; shut out: ${some(left)}`);
  if (options.yes === true) return;
  const question = "do you know all of them?";
  if (parts.interactive && (await (await import("../sys/prompt.js")).terminalPrompt(signal).confirm(question))) return;
  throw new Failure("confirmation-needed", "nobody has confirmed that these devices belong here", {
    advice: "exitnode lock enable --yes",
  });
}

const waits = (trust: Trust, device: DeviceInfo): boolean => standingIn(trust, device) === "unsigned";

const isTrusted = (trust: Trust | undefined, { key }: LockAnswer): boolean => trust?.keys.includes(key) === true;

function namedKey(key: Trust["keys"][number], devices: readonly DeviceInfo[]): string {
  const name = devices.find(({ lock }) => lock?.key === key)?.name;
  return name === undefined ? fingerprintOf(key) : `${name}, ${fingerprintOf(key)}`;
}

/** Who has signed for it, by name where that is known. */
function signerName(trust: Trust, { lock }: DeviceInfo, devices: readonly DeviceInfo[]): string | undefined {
  const by = lock?.signature === undefined ? undefined : signerOf(trust.lock, lock.key, lock.signature);
  return by === undefined ? undefined : (devices.find((one) => one.lock?.key === by)?.name ?? fingerprintOf(by));
}

function rowOf(trust: Trust, device: DeviceInfo, devices: readonly DeviceInfo[]): string[] {
  const fingerprint = device.lock === undefined ? "" : fingerprintOf(device.lock.key);
  switch (standingIn(trust, device)) {
    case "trusted":
      return [device.name, "trusted", fingerprint];
    case "signed":
      return [device.name, `signed by ${signerName(trust, device, devices)}`, fingerprint];
    case "unsigned":
      return [device.name, "waits for a signature", fingerprint];
    case "shut-out":
      return [device.name, "shut out", fingerprint];
    case "other-keys":
      return [device.name, "shut out: the coordinator shows keys that it has not signed itself", fingerprint];
    case "no-lock-key":
      return [device.name, `shut out: its agent (${device.agentVersion}) is an older one`, ""];
  }
}

function describe(trust: Trust | undefined, device: DeviceInfo, devices: readonly DeviceInfo[]) {
  const by = trust === undefined ? undefined : signerName(trust, device, devices);
  return {
    name: device.name,
    id: device.id,
    ...(device.lock === undefined ? {} : { fingerprint: fingerprintOf(device.lock.key) }),
    ...(trust === undefined ? {} : { standing: standingIn(trust, device) }),
    ...(by === undefined ? {} : { by }),
  };
}
