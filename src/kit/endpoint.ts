import { Failure } from "./failure.js";
import { familyOf, type Ip, tryIp } from "./ip.js";

/** Where a UDP datagram goes: an address and a port, never a name. */
export type Endpoint = { readonly address: Ip; readonly port: number };

/** "203.0.113.7:51820" or "[2001:db8::7]:51820". */
export function formatEndpoint({ address, port }: Endpoint): string {
  return familyOf(address) === 6 ? `[${address}]:${port}` : `${address}:${port}`;
}

export function tryEndpoint(text: string): Endpoint | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):(\d{1,5})$/.exec(text);
  const address = tryIp(match?.[1] ?? match?.[2] ?? "");
  const port = Number(match?.[3]);
  return address === undefined || port < 1 || port > 65_535 ? undefined : { address, port };
}

/** HOST:PORT, where the host may also be a name. */
export function isDialAddress(text: string): boolean {
  const [, host = "", port] = /^([a-z0-9.-]+):(\d{1,5})$/i.exec(text) ?? [];
  const labels = host.split(".");
  const isName = labels.every((label) => /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/i.test(label)) && host.length < 254;
  // What ends in a number is an address, or none (RFC 1123 §2.1).
  if (!isName || /^\d+$/.test(labels.at(-1) ?? "")) return tryEndpoint(text) !== undefined;
  return Number(port) >= 1 && Number(port) <= 65_535;
}

export function parseEndpoint(text: string): Endpoint {
  const endpoint = tryEndpoint(text);
  if (endpoint === undefined)
    throw new Failure("endpoint-invalid", `expected address:port such as 203.0.113.7:51820, got "${text}"`);
  return endpoint;
}
