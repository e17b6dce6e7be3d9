import { createSocket } from "node:dgram";
import { concat, fromHex } from "../kit/bytes.js";
import { type Ip, ipBytes, tryIp } from "../kit/ip.js";
import type { Files } from "../sys/files.js";
import { leasesPath } from "./dnsmasq.js";
import { RUN_DIR } from "./places.js";

/**
 * Gives a container's address back when the container ended without doing so. dnsmasq leases for two minutes at least
 * and reserves no address for a name while another MAC address holds it; a container that is destroyed and made again
 * within that time would miss the home router's port forwards.
 */
export type Lease = { readonly mac: string; readonly address: Ip; readonly clientId?: string };

const HOME_ROUTER = "198.18.77.1" as Ip;
const SERVER_PORT = 67;

/** To be called in the namespace of the Proxmox host. Without a lease, or a lab, it does nothing. */
export async function releaseLease(files: Files, mac: string): Promise<void> {
  const leases = parseLeases((await files.readText(leasesPath("home", RUN_DIR))) ?? "");
  const lease = leases.find((one) => one.mac === mac.toLowerCase());
  if (lease === undefined) return;
  const socket = createSocket("udp4");
  await new Promise<void>((resolve) => {
    // Not delivered is no harm: the lease ends by itself.
    socket.send(encodeRelease(lease, HOME_ROUTER), SERVER_PORT, HOME_ROUTER, () => socket.close(() => resolve()));
  });
}

/** dnsmasq's lease file: "expiry mac address name client-id", `*` where there is none; IPv6 follows a "duid" line. */
export function parseLeases(text: string): Lease[] {
  const leases: Lease[] = [];
  for (const line of text.split("\n")) {
    const [, mac = "", address = "", , clientId = "*"] = line.split(" ");
    const ip = tryIp(address);
    if (ip === undefined || !/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/.test(mac)) continue;
    leases.push({ mac, address: ip, ...(clientId === "*" ? {} : { clientId }) });
  }
  return leases;
}

/**
 * DHCPRELEASE, RFC 2131 §2 and §4.4.6:
 *
 *   op htype hlen hops   1 1 6 0
 *   xid secs flags       0, nobody answers
 *   ciaddr               the address given back; yiaddr, siaddr and giaddr are 0
 *   chaddr               the MAC address, padded to 16 bytes; sname and file are 192 zero bytes
 *   options              cookie, 53 message type 7, 54 server, 61 client identifier, 255
 */
export function encodeRelease(lease: Lease, server: Ip): Uint8Array {
  const clientId = hexOf(lease.clientId ?? "");
  return concat(
    Uint8Array.of(1, 1, 6, 0),
    new Uint8Array(8),
    ipBytes(lease.address),
    new Uint8Array(12),
    hexOf(lease.mac),
    new Uint8Array(10 + 192),
    Uint8Array.of(99, 130, 83, 99),
    Uint8Array.of(53, 1, 7),
    Uint8Array.of(54, 4),
    ipBytes(server),
    clientId.length === 0 ? clientId : concat(Uint8Array.of(61, clientId.length), clientId),
    Uint8Array.of(255),
  );
}

const hexOf = (text: string): Uint8Array => fromHex(text.replaceAll(":", "")) ?? new Uint8Array(0);
