import assert from "node:assert/strict";
import { tryEndpoint } from "../../src/kit/endpoint.js";
import { tryCidr } from "../../src/kit/ip.js";
import { tryKey } from "../../src/kit/key.js";

/** A configuration as wg-quick(8) describes it: each line once, in its section, and nothing else. */
export type WgQuick = {
  readonly address: readonly string[];
  readonly dns: readonly string[];
  readonly mtu: number;
  readonly privateKey: string;
  readonly publicKey: string;
  readonly allowedIps: readonly string[];
  readonly endpoint: string;
  /** What wg(8) itself reads of it. */
  readonly stripped: string;
};

const LINES: Readonly<Record<string, readonly string[]>> = {
  Interface: ["PrivateKey", "Address", "DNS", "MTU"],
  Peer: ["PublicKey", "AllowedIPs", "Endpoint"],
};
/** Of wg-quick alone. */
const QUICK = ["Address", "DNS", "MTU"];
const OPTIONAL = ["DNS"];

export function readWgQuick(text: string): WgQuick {
  const found = new Map<string, string>();
  const stripped: string[] = [];
  let section = "";
  for (const line of text.split("\n")) {
    if (line === "") continue;
    const head = /^\[(\w+)\]$/.exec(line)?.[1];
    if (head !== undefined) section = head;
    if (head === undefined) {
      const [, name = "", value = ""] = /^(\w+) = (\S.*)$/.exec(line) ?? assert.fail(`not a line of wg-quick: ${line}`);
      assert.ok(LINES[section]?.includes(name), `${name} is no line of [${section}]`);
      assert.ok(!found.has(name), `${name} is there twice`);
      found.set(name, value);
      if (QUICK.includes(name)) continue;
    }
    stripped.push(line);
  }
  const all = Object.values(LINES).flat();
  for (const name of all) assert.ok(found.has(name) || OPTIONAL.includes(name), `${name} is missing`);
  const one = (name: string): string => found.get(name) ?? "";
  const list = (name: string): string[] => (found.has(name) ? one(name).split(", ") : []);
  for (const key of [one("PrivateKey"), one("PublicKey")]) assert.ok(tryKey(key) !== undefined, "not a key");
  for (const prefix of [...list("Address"), ...list("AllowedIPs")]) assert.ok(tryCidr(prefix) !== undefined, prefix);
  const endpoint = one("Endpoint");
  assert.ok(tryEndpoint(endpoint) !== undefined || /^[a-z0-9.-]+:\d+$/.test(endpoint), endpoint);
  return {
    ...{ address: list("Address"), dns: list("DNS"), mtu: Number(one("MTU")), endpoint },
    ...{ privateKey: one("PrivateKey"), publicKey: one("PublicKey"), allowedIps: list("AllowedIPs") },
    stripped: `${stripped.join("\n")}\n`,
  };
}
