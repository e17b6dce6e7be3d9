import { Failure } from "../kit/failure.js";
import { HOSTS_MAX, PVE_VERSIONS } from "../lab/hosts.js";
import { LINE_STATES, MTU, MTU_MIN } from "../lab/internet.js";
import { observeLab, reshapeLab } from "../lab/lab.js";
import { NETWORKS, parseNatKind, SITES, type Site, type SiteSituation, type Situation } from "../lab/situation.js";
import { topology } from "../lab/topology.js";
import type { Call, Outcome } from "./command.js";
import { labParts, requireMachine, withLabLock } from "./labparts.js";

/** The commands that change what the lab's Internet does. Each lasts until it is changed again or the lab goes down. */

type Change = (situation: Situation) => Situation;

/** What `lab up` was asked to be different; what it was not asked stays, or is as usual. */
export function situationOptions(options: Call["options"]): Change {
  const text = (name: string): string | undefined => {
    const value = options[name];
    return value === true ? "yes" : typeof value === "string" ? value : undefined;
  };
  const changes: Change[] = [];
  for (const [site, name] of [
    ["home", "homeNat"],
    ["cafe", "cafeNat"],
  ] as const) {
    const kind = text(name);
    if (kind !== undefined) changes.push(atSite(site, { nat: parseNatKind(kind) }));
  }
  for (const [key, name] of [
    ["forward", "forward"],
    ["upnp", "homeUpnp"],
    ["vps", "vps"],
    ["cluster", "cluster"],
  ] as const) {
    const answer = text(name);
    if (answer === undefined) continue;
    const wanted = yesOrNo(answer);
    changes.push((now) => ({ ...now, [key]: wanted }));
  }
  const hosts = text("hosts");
  if (hosts !== undefined) {
    const count = numberWithin(hosts, 1, HOSTS_MAX, UP_HELP);
    if (!Number.isInteger(count)) throw new Failure("usage", `expected a whole number, got "${hosts}"`);
    changes.push((now) => ({ ...now, hosts: count }));
  }
  const version = text("pveVersion");
  if (version !== undefined) {
    const pveVersion = oneOf(PVE_VERSIONS, version, UP_HELP);
    changes.push((now) => ({ ...now, pveVersion }));
  }
  return (situation) => {
    const wanted = changes.reduce((now, change) => change(now), situation);
    if (wanted.cluster && wanted.hosts === 1)
      throw new Failure("usage", "a cluster needs two Proxmox hosts or more", {
        advice: "exitnode lab up --hosts 2 --cluster",
      });
    return wanted;
  };
}

const UP_HELP = "exitnode lab up --help";

function yesOrNo(text: string): boolean {
  if (text === "yes" || text === "no") return text === "yes";
  throw new Failure("usage", `expected yes or no, got "${text}"`, { advice: UP_HELP });
}

const atSite =
  (site: Site, values: Partial<SiteSituation>): Change =>
  (situation) => ({ ...situation, [site]: { ...situation[site], ...values } });

export async function labNat(call: Call): Promise<Outcome> {
  const site = siteOf(call);
  const nat = parseNatKind(call.args[1] ?? "");
  return change(call, "lab nat", atSite(site, { nat }), { place: site, nat }, `${site} reaches the Internet as ${nat}`);
}

export async function labLink(call: Call): Promise<Outcome> {
  const site = siteOf(call);
  const link = oneOf(LINE_STATES, call.args[1], "exitnode lab link cafe direct-cut");
  return change(call, "lab link", atSite(site, { link }), { place: site, link }, `the line of ${site} is ${link}`);
}

export async function labLoss(call: Call): Promise<Outcome> {
  const site = siteOf(call);
  const lossPercent = numberWithin(call.args[1], 0, 100, "exitnode lab loss cafe 5");
  const told = `the line of ${site} loses ${lossPercent} % of all packets`;
  return change(call, "lab loss", atSite(site, { lossPercent }), { place: site, lossPercent }, told);
}

export async function labMtu(call: Call): Promise<Outcome> {
  const site = siteOf(call);
  const mtu = Math.floor(numberWithin(call.args[1], MTU_MIN, MTU, "exitnode lab mtu cafe 1280"));
  const muteTooBig = call.options.silent === true;
  const told = `the line of ${site} carries packets of ${mtu} bytes${muteTooBig ? ", and says nothing of larger ones" : ""}`;
  return change(call, "lab mtu", atSite(site, { mtu, muteTooBig }), { place: site, mtu, muteTooBig }, told);
}

export async function labMove(call: Call): Promise<Outcome> {
  oneOf(["laptop"], call.args[0], "exitnode lab move laptop mobile");
  const laptopAt = oneOf(NETWORKS, call.args[1], "exitnode lab move laptop mobile");
  const value = { device: "laptop", network: laptopAt };
  return change(call, "lab move", (now) => ({ ...now, laptopAt }), value, `the laptop is in ${laptopAt}`);
}

async function change(call: Call, command: string, how: Change, value: object, told: string): Promise<Outcome> {
  requireMachine(call, command);
  return withLabLock(async () => {
    const state = await observeLab(call.parts.files, topology);
    if (state !== "up") throw new Failure("lab-absent", `the lab is ${state}, not up`, { advice: "exitnode lab up" });
    const { changed } = await reshapeLab(labParts(call), topology, how);
    return { value: { changed, ...value }, text: `${told}${changed ? "" : "; nothing changed"}\n` };
  });
}

/** One line for each thing that is not as usual, and none when all is. */
export function describeSituation(situation: Situation): string {
  const sites = SITES.flatMap((site) => {
    const { nat, link, lossPercent, mtu, muteTooBig } = situation[site];
    return [
      ...(nat === "address-and-port-dependent" ? [] : [`${site} reaches the Internet as ${nat}`]),
      ...(link === "up" ? [] : [`the line of ${site} is ${link}`]),
      ...(lossPercent === 0 ? [] : [`the line of ${site} loses ${lossPercent} % of all packets`]),
      ...(mtu === MTU ? [] : [`the line of ${site} carries ${mtu} bytes${muteTooBig ? ", silently" : ""}`]),
    ];
  });
  return [
    ...sites,
    ...(situation.forward ? [] : ["the home router forwards no ports"]),
    ...(situation.upnp ? ["the home router serves UPnP, NAT-PMP and PCP"] : []),
    ...(situation.hosts === 1
      ? []
      : [`the home has ${situation.hosts} Proxmox hosts${situation.cluster ? ", one cluster" : ""}`]),
    ...(situation.pveVersion === PVE_VERSIONS[0] ? [] : [`the Proxmox hosts are of release ${situation.pveVersion}`]),
    ...(situation.vps ? ["vps is a machine of its own"] : []),
    ...(situation.laptopAt === "cafe" ? [] : [`the laptop is in ${situation.laptopAt}`]),
  ]
    .map((line) => `  ${line}\n`)
    .join("");
}

const siteOf = (call: Call): Site => oneOf(SITES, call.args[0], "exitnode lab nat cafe symmetric");

function oneOf<T extends string>(all: readonly T[], text: string | undefined, advice: string): T {
  const found = all.find((one) => one === text);
  if (found !== undefined) return found;
  throw new Failure("usage", `expected ${all.length === 1 ? "" : "one of "}${all.join(", ")}, got "${text ?? ""}"`, {
    advice,
  });
}

function numberWithin(text: string | undefined, least: number, most: number, advice: string): number {
  const value = text === undefined || text.trim() === "" ? Number.NaN : Number(text);
  if (value >= least && value <= most) return value;
  throw new Failure("usage", `expected a number from ${least} to ${most}, got "${text ?? ""}"`, { advice });
}
