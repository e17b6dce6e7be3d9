import { Failure } from "./failure.js";

/** An IP address in its canonical text (RFC 5952 for IPv6): two equal addresses are equal strings. */
export type Ip = string & { readonly unit: "ip" };
/** A prefix in canonical text, host bits zero: "198.18.77.0/24", "::/0". */
export type Cidr = string & { readonly unit: "cidr" };
export type Family = 4 | 6;

export const familyOf = (ip: Ip | Cidr): Family => (ip.includes(":") ? 6 : 4);
export const bitsOf = (family: Family): number => (family === 4 ? 32 : 128);

export function tryIp(text: string): Ip | undefined {
  const bytes = ipToBytesLoose(text);
  return bytes === undefined ? undefined : ipFromBytes(bytes);
}

export function parseIp(text: string): Ip {
  const ip = tryIp(text);
  if (ip === undefined) throw new Failure("ip-invalid", `expected an IPv4 or IPv6 address, got "${text}"`);
  return ip;
}

/** Four or sixteen bytes, network order. */
export function ipBytes(ip: Ip): Uint8Array {
  const bytes = ipToBytesLoose(ip);
  if (bytes === undefined) throw new Error("an Ip that does not parse");
  return bytes;
}

export function ipFromBytes(bytes: Uint8Array): Ip {
  if (bytes.length === 4) return bytes.join(".") as Ip;
  const groups = Array.from({ length: 8 }, (_, i) => ((bytes[2 * i] ?? 0) << 8) | (bytes[2 * i + 1] ?? 0));
  // RFC 5952 §4.2: the longest run of zero groups, at least two, the first of equals, becomes "::".
  let best = { at: -1, length: 1 };
  for (let at = 0; at < 8; at++) {
    let length = 0;
    while (at + length < 8 && groups[at + length] === 0) length++;
    if (length > best.length) best = { at, length };
    if (length > 0) at += length;
  }
  const hex = groups.map((group) => group.toString(16));
  if (best.at < 0) return hex.join(":") as Ip;
  return `${hex.slice(0, best.at).join(":")}::${hex.slice(best.at + best.length).join(":")}` as Ip;
}

export function ipToBigInt(ip: Ip): bigint {
  return ipBytes(ip).reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
}

export function ipFromBigInt(value: bigint, family: Family): Ip {
  const bytes = new Uint8Array(bitsOf(family) / 8);
  for (let i = bytes.length - 1, rest = value; i >= 0; i--, rest >>= 8n) bytes[i] = Number(rest & 0xffn);
  return ipFromBytes(bytes);
}

/** Accepts "10.0.0.1/24" (host bits are cleared) and a bare address (a /32 or /128). */
export function tryCidr(text: string): Cidr | undefined {
  const [address = "", length, ...rest] = text.split("/");
  const ip = tryIp(address);
  if (ip === undefined || rest.length > 0) return undefined;
  const bits = bitsOf(familyOf(ip));
  if (length !== undefined && !/^\d{1,3}$/.test(length)) return undefined;
  const prefix = length === undefined ? bits : Number(length);
  if (prefix > bits) return undefined;
  return makeCidr(ip, prefix);
}

export function parseCidr(text: string): Cidr {
  const cidr = tryCidr(text);
  if (cidr === undefined) throw new Failure("cidr-invalid", `expected a prefix such as 192.168.1.0/24, got "${text}"`);
  return cidr;
}

/** The prefix of `length` bits that `ip` is in. */
export function makeCidr(ip: Ip, length: number): Cidr {
  const family = familyOf(ip);
  const shift = BigInt(bitsOf(family) - length);
  return `${ipFromBigInt((ipToBigInt(ip) >> shift) << shift, family)}/${length}` as Cidr;
}

export const cidrAddress = (cidr: Cidr): Ip => cidr.slice(0, cidr.indexOf("/")) as Ip;
export const cidrLength = (cidr: Cidr): number => Number(cidr.slice(cidr.indexOf("/") + 1));

export function cidrContains(cidr: Cidr, ip: Ip): boolean {
  return familyOf(cidr) === familyOf(ip) && makeCidr(ip, cidrLength(cidr)) === cidr;
}

/** A single host as a prefix. */
export const hostCidr = (ip: Ip): Cidr => makeCidr(ip, bitsOf(familyOf(ip)));

/** Ranges that are not the public Internet: RFC 1918, RFC 6598, RFC 3927, RFC 2544, loopback; RFC 4193, RFC 4291. */
export const PRIVATE_RANGES: readonly Cidr[] = [
  "10.0.0.0/8",
  "100.64.0.0/10",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "172.16.0.0/12",
  "192.168.0.0/16",
  "198.18.0.0/15",
  "fc00::/7",
  "fe80::/10",
  "::1/128",
] as Cidr[];

export const isPrivate = (ip: Ip): boolean => PRIVATE_RANGES.some((range) => cidrContains(range, ip));

function ipToBytesLoose(text: string): Uint8Array | undefined {
  return text.includes(":") ? ip6ToBytes(text) : ip4ToBytes(text);
}

function ip4ToBytes(text: string): Uint8Array | undefined {
  const parts = text.split(".");
  // No leading zeros: some parsers read them as octal.
  if (parts.length !== 4 || !parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) < 256))
    return undefined;
  return Uint8Array.from(parts, Number);
}

function ip6ToBytes(text: string): Uint8Array | undefined {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const head = ip6Groups(halves[0] ?? "", halves.length === 1);
  const tail = halves.length === 2 ? ip6Groups(halves[1] ?? "", true) : [];
  if (head === undefined || tail === undefined) return undefined;
  const missing = 8 - head.length - tail.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined;
  const groups = [...head, ...new Array<number>(missing).fill(0), ...tail];
  const bytes = new Uint8Array(16);
  groups.forEach((group, i) => {
    bytes[2 * i] = group >> 8;
    bytes[2 * i + 1] = group & 0xff;
  });
  return bytes;
}

function ip6Groups(text: string, mayEndInIp4: boolean): number[] | undefined {
  if (text === "") return [];
  const groups: number[] = [];
  const parts = text.split(":");
  for (const [i, part] of parts.entries()) {
    if (mayEndInIp4 && i === parts.length - 1 && part.includes(".")) {
      const four = ip4ToBytes(part);
      if (four === undefined) return undefined;
      groups.push(((four[0] ?? 0) << 8) | (four[1] ?? 0), ((four[2] ?? 0) << 8) | (four[3] ?? 0));
    } else if (/^[0-9a-fA-F]{1,4}$/.test(part)) groups.push(Number.parseInt(part, 16));
    else return undefined;
  }
  return groups;
}
