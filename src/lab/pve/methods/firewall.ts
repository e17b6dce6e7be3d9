import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { words } from "../format.js";
import { digestOf } from "../guestconfig.js";
import { type Call, type Handlers, vmidOf } from "../pve.js";
import { badParameters, failed } from "../refusal.js";
import { writeWhole } from "../statefile.js";
import { STALE } from "./config.js";

type Rule = Record<string, string | number>;
type Firewall = { options: Record<string, string | number>; rules: Rule[] };

/** A container's firewall: kept and given back, not enforced. */
export const firewallMethods: Handlers = {
  "GET /nodes/{node}/lxc/{vmid}/firewall": () => ["options", "rules"].map((name) => ({ name })),

  "GET /nodes/{node}/lxc/{vmid}/firewall/options": (call) => {
    const { firewall, digest } = read(call);
    return { ...firewall.options, digest };
  },
  "PUT /nodes/{node}/lxc/{vmid}/firewall/options": (call) => {
    const { firewall } = read(call);
    for (const key of words(String(call.params.delete ?? ""))) delete firewall.options[key];
    return write(call, { ...firewall, options: { ...firewall.options, ...given(call) } });
  },
  "GET /nodes/{node}/lxc/{vmid}/firewall/rules": (call) => {
    const { firewall, digest } = read(call);
    return firewall.rules.map((rule, pos) => ({ ...rule, ...ipVersion(rule), pos, digest }));
  },
  "POST /nodes/{node}/lxc/{vmid}/firewall/rules": (call) => {
    const { action } = call.params;
    if (!/^(?:ACCEPT|DROP|REJECT)$/.test(String(action))) throw badParameters({ action: `unknown action '${action}'` });
    const { firewall } = read(call);
    return write(call, { ...firewall, rules: [given(call), ...firewall.rules] });
  },
  "GET /nodes/{node}/lxc/{vmid}/firewall/rules/{pos}": (call) => {
    const { firewall, digest } = read(call);
    return { ...ruleAt(call, firewall), pos: Number(call.params.pos), digest };
  },
  "DELETE /nodes/{node}/lxc/{vmid}/firewall/rules/{pos}": (call) => {
    const { firewall } = read(call);
    const gone = ruleAt(call, firewall);
    return write(call, { ...firewall, rules: firewall.rules.filter((rule) => rule !== gone) });
  },
};

function pathOf(call: Call): string {
  return join(call.pve.stateDir, "firewall", `${vmidOf(call)}.json`);
}

function read(call: Call): { firewall: Firewall; digest: string } {
  const text = existsSync(pathOf(call)) ? readFileSync(pathOf(call), "utf8") : "";
  const digest = digestOf(text);
  const wanted = call.params.digest;
  if (wanted !== undefined && wanted !== digest) throw failed(STALE);
  return { firewall: text === "" ? { options: {}, rules: [] } : (JSON.parse(text) as Firewall), digest };
}

function write(call: Call, firewall: Firewall): null {
  writeWhole(pathOf(call), JSON.stringify(firewall));
  return null;
}

function given({ params }: Call): Rule {
  const { node: _, vmid: __, digest: ___, delete: ____, pos: _____, ...rest } = params;
  return rest;
}

/** Told where the rule names addresses. */
function ipVersion(rule: Rule): { ipversion?: number } {
  const address = rule.source ?? rule.dest;
  return address === undefined ? {} : { ipversion: String(address).includes(":") ? 6 : 4 };
}

function ruleAt({ params }: Call, firewall: Firewall): Rule {
  const rule = firewall.rules[Number(params.pos)];
  if (rule === undefined) throw badParameters({ pos: `no rule at position ${params.pos}` });
  return rule;
}
