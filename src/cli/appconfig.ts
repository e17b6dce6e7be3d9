import { hostCidr } from "../kit/ip.js";
import type { Key } from "../kit/key.js";
import type { AddedApp } from "../wire/adminapi.js";

/**
 * What the WireGuard app is given, in the form of wg-quick(8). Without PersistentKeepalive: the app begins whatever
 * it does, and a phone that sends for no reason is a phone that does not sleep.
 */
export function appConfig({ addresses, app, tunnel }: AddedApp, privateKey: Key, onlyNetwork: boolean): string {
  const { exitKey, ranges, resolvers, mtu } = tunnel;
  // Both families also when the exit node has one: what it cannot carry must not leave beside the tunnel.
  const allowed = onlyNetwork ? ranges : ["0.0.0.0/0", "::/0"];
  // They may be in the home's network, which only what goes through the tunnel reaches.
  const dns = onlyNetwork ? [] : resolvers;
  return [
    "[Interface]",
    `PrivateKey = ${privateKey}`,
    `Address = ${addresses.map(hostCidr).join(", ")}`,
    ...(dns.length === 0 ? [] : [`DNS = ${dns.join(", ")}`]),
    `MTU = ${mtu}`,
    "",
    "[Peer]",
    `PublicKey = ${exitKey}`,
    `AllowedIPs = ${allowed.join(", ")}`,
    `Endpoint = ${app?.endpoint}`,
    "",
  ].join("\n");
}
