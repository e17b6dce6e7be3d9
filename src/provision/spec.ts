import { Failure } from "../kit/failure.js";
import { cidrLength, familyOf, tryCidr, tryIp } from "../kit/ip.js";
import { NAME_PATTERN } from "../wire/schema.js";
import type { GivenOptions } from "./identity.js";

/** What is wanted: every choice made, by option, by the host's entry, by an earlier run, or by what the host offers. */
export type ExitNodeSpec = {
  readonly name: string;
  readonly cores: number;
  readonly memoryMib: number;
  readonly dataPlane: DataPlaneChoice;
  readonly allowLan: readonly string[];
  readonly publicAddress: string | undefined;
  readonly whoami: readonly string[];
  /** What was chosen explicitly, now or earlier: goes into the container's description. */
  readonly given: GivenOptions;
};
export type DataPlaneChoice = "auto" | "kernel" | "userspace";

/** An exit node is small on purpose; one place for every default. */
export const DEFAULTS = Object.freeze({
  name: "home",
  cores: 1,
  memoryMib: 512,
  diskGib: 4,
  ip: "dhcp",
  ip6: "auto",
  whoami: ["https://api64.ipify.org", "https://icanhazip.com"],
});
const MEMORY_MIB_MIN = 128;
const DISK_GIB_MIN = 1;
export const VMID_MIN = 100;
export const VMID_MAX = 999_999_999;

/** Choices that are made once: changing them means another container. */
const FIXED_OPTIONS = [
  "pveNode",
  "storage",
  "template",
  "templateStorage",
  "bridge",
  "vlan",
  "ip",
  "gateway",
  "ip6",
  "gateway6",
  "disk",
  "vmid",
  "pool",
] as const satisfies readonly (keyof GivenOptions)[];

export type HostDefaults = GivenOptions & {
  readonly whoami?: readonly string[] | undefined;
  /** A container that root prepared with /dev/net/tun: new ones are cloned from it. */
  readonly tunSource?: number | undefined;
};

/** Given now, else remembered in the container, else the host entry's, else ours. */
export function resolveSpec(
  name: string,
  now: GivenOptions,
  remembered: GivenOptions,
  defaults: HostDefaults,
): ExitNodeSpec {
  const given: GivenOptions = { ...remembered, ...now };
  return {
    name,
    cores: given.cores ?? defaults.cores ?? DEFAULTS.cores,
    memoryMib: given.memory ?? defaults.memory ?? DEFAULTS.memoryMib,
    dataPlane: given.dataPlane ?? defaults.dataPlane ?? "auto",
    allowLan: given.allowLan ?? defaults.allowLan ?? [],
    publicAddress: given.publicAddress ?? defaults.publicAddress,
    whoami: defaults.whoami ?? DEFAULTS.whoami,
    given,
  };
}

/** The rest of the options: those that an existing exit node can still be given. */
export function changeable(given: GivenOptions): GivenOptions {
  const fixed: readonly string[] = FIXED_OPTIONS;
  return Object.fromEntries(Object.entries(given).filter(([option]) => !fixed.includes(option)));
}

/** Refuses an option that an existing exit node was made without. */
export function refuseFixed(name: string, now: GivenOptions, existing: Readonly<Record<string, unknown>>): void {
  for (const option of FIXED_OPTIONS) {
    const wanted = now[option];
    if (wanted === undefined || String(wanted) === String(existing[option])) continue;
    throw new Failure("option-fixed", `${flagOf(option)} of "${name}" was settled when it was made, got "${wanted}"`, {
      advice: `leave ${flagOf(option)} out, or start over: exitnode destroy ${name}`,
    });
  }
}

/** Checks what was typed; texts come as commander hands them over. */
export function parseOptions(typed: Readonly<Record<string, unknown>>): GivenOptions {
  const text = (option: string): string | undefined => {
    const value = typed[option];
    return typeof value === "string" ? value : undefined;
  };
  const whole = (option: keyof GivenOptions, min: number, max: number): number | undefined => {
    const value = text(option);
    if (value === undefined) return undefined;
    const number = Number(value);
    if (/^\d{1,9}$/.test(value) && number >= min && number <= max) return number;
    throw invalid(option, `a whole number from ${min} to ${max}`, value);
  };
  const word = (option: keyof GivenOptions): string | undefined => {
    const value = text(option);
    if (value === undefined || /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(value)) return value;
    throw invalid(option, "a name of letters, digits, dots, - and _", value);
  };
  const template = text("template");
  const publicAddress = text("publicAddress");
  if (publicAddress !== undefined && tryIp(publicAddress) === undefined && !isDnsName(publicAddress))
    throw invalid("publicAddress", "an address or a DNS name", publicAddress);
  const ip = text("ip");
  const ip6 = text("ip6");
  const typedLans = typed.allowLan;
  const lans = Array.isArray(typedLans) ? typedLans.map(String) : [];
  return withoutUndefined({
    pveNode: word("pveNode"),
    storage: word("storage"),
    template,
    templateStorage: word("templateStorage"),
    bridge: word("bridge"),
    vlan: whole("vlan", 1, 4094),
    ip: ip === undefined || ip === "dhcp" ? ip : addressOption("ip", ip, 4),
    gateway: gatewayOption("gateway", text("gateway"), 4),
    ip6: ip6 === undefined || ["auto", "dhcp", "none"].includes(ip6) ? ip6 : addressOption("ip6", ip6, 6),
    gateway6: gatewayOption("gateway6", text("gateway6"), 6),
    cores: whole("cores", 1, 512),
    memory: whole("memory", MEMORY_MIB_MIN, 1_048_576),
    disk: whole("disk", DISK_GIB_MIN, 8_192),
    vmid: whole("vmid", VMID_MIN, VMID_MAX),
    pool: word("pool"),
    dataPlane: dataPlaneOption(text("dataPlane")),
    // "none" takes back what an earlier run allowed.
    allowLan: lans.length === 0 ? undefined : lans.filter((lan) => lan !== "none").map(lanOption),
    publicAddress,
  });
}

export function parseName(name: string): string {
  if (NAME_PATTERN.test(name)) return name;
  throw new Failure("name-invalid", `a name must be 1 to 63 of a-z, 0-9 and - (not first or last), got "${name}"`, {
    advice: "choose another name: exitnode create --name home",
  });
}

function addressOption(option: keyof GivenOptions, value: string, family: 4 | 6): string {
  const [address = "", length] = value.split("/");
  const cidr = tryCidr(value);
  const ip = tryIp(address);
  if (length === undefined || cidr === undefined || ip === undefined || familyOf(ip) !== family)
    throw invalid(
      option,
      family === 4 ? "dhcp or an address such as 192.168.1.5/24" : "auto, dhcp, none or an address such as fd00::5/64",
      value,
    );
  return `${ip}/${cidrLength(cidr)}`;
}

function gatewayOption(option: keyof GivenOptions, value: string | undefined, family: 4 | 6): string | undefined {
  if (value === undefined) return undefined;
  const ip = tryIp(value);
  if (ip === undefined || familyOf(ip) !== family) throw invalid(option, `an IPv${family} address`, value);
  return ip;
}

function lanOption(value: string): string {
  const cidr = tryCidr(value);
  if (cidr === undefined) throw invalid("allowLan", "a prefix such as 192.168.1.0/24", value);
  return cidr;
}

function dataPlaneOption(value: string | undefined): DataPlaneChoice | undefined {
  if (value === undefined || value === "auto" || value === "kernel" || value === "userspace") return value;
  throw invalid("dataPlane", "auto, kernel or userspace", value);
}

function isDnsName(text: string): boolean {
  return text.length <= 253 && text.split(".").every((label) => NAME_PATTERN.test(label.toLowerCase()));
}

function invalid(option: string, expected: string, got: string): Failure {
  return new Failure("option-invalid", `${flagOf(option)} must be ${expected}, got "${got}"`, {
    advice: "see: exitnode create --help",
  });
}

function flagOf(option: string): string {
  return `--${option.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

type Defined<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

function withoutUndefined<T extends object>(value: T): Defined<T> {
  return Object.fromEntries(Object.entries(value).filter(([, one]) => one !== undefined)) as Defined<T>;
}
