import { utf8 } from "../../src/kit/bytes.js";
import { hash, keyPairOf } from "../../src/kit/crypto.js";
import { parseEndpoint } from "../../src/kit/endpoint.js";
import { parseCidr } from "../../src/kit/ip.js";
import { keyOf } from "../../src/kit/key.js";
import type { WantInterface, WantPeer } from "../../src/wireguard/interface.js";

/** Two interfaces that know each other, `left` at 100.64.8.1 and 10.99.7.1, `right` at 100.64.8.2 and 10.99.7.2. */
const PORT = 51_820;
const HOSTS = { left: 1, right: 2 } as const;
type Side = keyof typeof HOSTS;

const keys = (name: string) => keyPairOf(hash(utf8(name)));
const otherSide = (side: Side): Side => (side === "left" ? "right" : "left");

export function sample(name: string, side: Side = "left", more: readonly WantPeer[] = []): WantInterface {
  const other = otherSide(side);
  return {
    name,
    privateKey: keyOf(keys(side).privateKey),
    listenPort: PORT,
    mtu: 1280,
    fwmark: 0x45_0000,
    peers: [
      {
        publicKey: keyOf(keys(other).publicKey),
        endpoint: parseEndpoint(`10.99.7.${HOSTS[other]}:${PORT}`),
        allowedIps: [parseCidr(`100.64.8.${HOSTS[other]}/32`)],
        persistentKeepaliveSeconds: 0,
      },
      ...more,
    ],
  };
}

/** Peers that are nowhere to be found. */
export const strangers = (count: number, port: number): WantPeer[] =>
  Array.from({ length: count }, (_, i) => ({
    publicKey: keyOf(hash(utf8(`stranger ${i}`))),
    endpoint: parseEndpoint(`10.99.7.77:${port}`),
    allowedIps: [parseCidr(`100.65.${i >> 8}.${i & 255}/32`), parseCidr(`fd7e:9::${i.toString(16)}/128`)],
    persistentKeepaliveSeconds: 0,
  }));
