import { Failure } from "../kit/failure.js";
import { type Key, tryKey } from "../kit/key.js";

/**
 * /etc/exitnode/relay.json. Read by hand and not by zod, and JSON and not YAML: the two libraries would be a tenth of
 * the memory of a relay with a thousand devices.
 */
export type RelayConfig = {
  /** Where devices reach it; 443 needs CAP_NET_BIND_SERVICE. */
  readonly listen: { readonly address: string; readonly port: number };
  /** UDP, both families; 0 answers no STUN. */
  readonly stunPort: number;
  /** A second port for STUN, so that this relay alone shows whether a NAT's port changes; 0 for none. */
  readonly otherStunPort: number;
  /** Public halves of the coordinators' admission keys, Ed25519: whose devices are served. */
  readonly coordinatorKeys: readonly Key[];
  /** The names and addresses for a certificate made here. */
  readonly hosts: readonly string[];
  /** A certificate of one's own, for proxies that judge it: two files. */
  readonly tls: { readonly key: string; readonly certificate: string } | undefined;
  /** Prometheus, plain HTTP: keep it on an address that only you reach. */
  readonly metrics: { readonly address: string; readonly port: number } | undefined;
  /** The most that one device may send; undefined leaves it at RELAY_LIMITS. */
  readonly bytesPerSecondMax: number | undefined;
};

const NAMES = [
  "listen",
  "stunPort",
  "otherStunPort",
  "coordinatorKeys",
  "hosts",
  "tls",
  "metrics",
  "bytesPerSecondMax",
];
const LIST_MAX = 8;
const RATE_MIN = 1_000;
const RATE_MAX = 1_250_000_000;

/** Where STUN is answered too, unless a configuration says otherwise. Devices are told, and do not reckon it. */
export function otherStunPortBeside(stunPort: number): number {
  if (stunPort === 0) return 0;
  return stunPort < 65_535 ? stunPort + 1 : stunPort - 1;
}

/** Parses what `source` held; a Failure names the place and the expectation. */
export function decodeRelayConfig(value: unknown, source: string, code = "config-invalid"): RelayConfig {
  const fail = (place: string, expected: string): never => {
    throw new Failure(code, `${source} is invalid: ${place}: expected ${expected}`);
  };
  type Fields = Readonly<Record<string, unknown>>;
  const fields = (given: unknown, place: string, names: readonly string[]): Fields => {
    if (given === null || typeof given !== "object" || Array.isArray(given)) return fail(place, "an object");
    const strange = Object.keys(given).find((name) => !names.includes(name));
    if (strange !== undefined) fail(place, `one of ${names.join(", ")}, got "${strange}"`);
    return { ...given };
  };
  const whole = (given: unknown, place: string, least: number, most: number): number =>
    typeof given === "number" && Number.isInteger(given) && given >= least && given <= most
      ? given
      : fail(place, `a whole number from ${least} to ${most}`);
  const text = (given: unknown, place: string): string =>
    typeof given === "string" && given !== "" ? given : fail(place, "a text");
  const list = (given: unknown, place: string, least: number): readonly unknown[] =>
    Array.isArray(given) && given.length >= least && given.length <= LIST_MAX
      ? given
      : fail(place, `a list of ${least} to ${LIST_MAX}`);
  const where = (given: unknown, place: string, address: string, port?: number) => {
    const found = fields(given, place, ["address", "port"]);
    return {
      address: text(found.address ?? address, `${place}.address`),
      port: whole(found.port ?? port, `${place}.port`, 0, 65_535),
    };
  };
  const all = fields(value, "(whole)", NAMES);
  const stunPort = whole(all.stunPort ?? 3_478, "stunPort", 0, 65_535);
  const tls = all.tls === undefined ? undefined : fields(all.tls, "tls", ["key", "certificate"]);
  return {
    listen: where(all.listen ?? {}, "listen", "::", 443),
    stunPort,
    otherStunPort: whole(all.otherStunPort ?? otherStunPortBeside(stunPort), "otherStunPort", 0, 65_535),
    coordinatorKeys: list(all.coordinatorKeys, "coordinatorKeys", 1).map(
      (one, i) =>
        (typeof one === "string" ? tryKey(one) : undefined) ?? fail(`coordinatorKeys.${i}`, "a 32-byte base64 key"),
    ),
    hosts: list(all.hosts ?? [], "hosts", 0).map((one, i) => text(one, `hosts.${i}`)),
    tls: tls && { key: text(tls.key, "tls.key"), certificate: text(tls.certificate, "tls.certificate") },
    metrics: all.metrics === undefined ? undefined : where(all.metrics, "metrics", "127.0.0.1"),
    bytesPerSecondMax:
      all.bytesPerSecondMax === undefined
        ? undefined
        : whole(all.bytesPerSecondMax, "bytesPerSecondMax", RATE_MIN, RATE_MAX),
  };
}

/** Below EXITNODE_ETC, and EXITNODE_VAR (/var/lib/exitnode-relay). */
export const RELAY_FILES = {
  config: "relay.json", // etc
  noiseKey: "noise.key", // var, mode 0600
  tlsKey: "tls.key", // var, mode 0600
  tlsCertificate: "tls.crt", // var
} as const;
