import { type Cidr, cidrAddress } from "../../kit/ip.js";
import type { Access } from "./access.js";
import type { Grant, Policy, PolicyTest, Target } from "./policy.js";
import { portsHold, type Selector, selectorKey } from "./selector.js";
import { isSelf, personKeys, reachOf, type Standing, sourcesOf, type Users } from "./standing.js";

/** A policy's own tests: each asks what somebody may reach, be there a device of theirs or not. */

export type Verdict = { readonly line: number; readonly message: string };

/** What a test sees of the network: devices by name and people, for what a policy does not say itself. */
export type World = { readonly access: Access; readonly users: Users; readonly idByName: ReadonlyMap<string, string> };

/** The tests that fail, in words. */
export function runTests(policy: Policy, world: World): Verdict[] {
  return policy.tests.flatMap((test) => {
    const asked = [...test.accept, ...test.deny].map((target) => ({ target, wanted: test.accept.includes(target) }));
    return asked.flatMap(({ target, wanted }) => {
      const message = judge(policy, world, test, target, wanted);
      return message === undefined ? [] : [{ line: test.line, message }];
    });
  });
}

function judge(policy: Policy, world: World, test: PolicyTest, target: Target, wanted: boolean): string | undefined {
  const sources = standIns(test.src, policy, world);
  const targets = standIns(target.dst, policy, world, test.via);
  const who = textOf(test.src);
  if (typeof sources === "string") return sources;
  if (typeof targets === "string") return targets;
  for (const source of sources)
    for (const one of targets) {
      const granted = policy.grants.some((grant) => lets(grant, source, one, target, test.protocol));
      if (granted && !wanted) return `${who} reaches ${target.text} (${test.protocol}), which the test denies`;
      if (!granted && wanted) return `${who} does not reach ${target.text} (${test.protocol}), which the test accepts`;
    }
  return undefined;
}

function lets(
  grant: Grant,
  source: Standing,
  target: Standing,
  { dst, port }: Target,
  protocol: "tcp" | "udp" | "icmp",
) {
  if (sourcesOf(grant.src, source).length === 0) return false;
  if (!grant.ports.some((ports) => portsHold(ports, protocol, port))) return false;
  if (isSelf(grant.dst) && source.owner !== undefined && source.owner === target.owner) return true;
  const reach = reachOf(grant.dst, grant.via, target, []);
  if (reach === undefined) return false;
  return dst.kind === "autogroup" && dst.name === "internet" ? reach.exits.length > 0 : true;
}

const NOBODY: Standing = { keys: new Set(["*"]), owner: undefined, own: [], subnets: [], exits: [], resolvers: [] };
/** Stands for the addresses of a device that need not exist: in no prefix that a policy names (RFC 6666). */
const SOMEWHERE = ["100::1/128"] as Cidr[];

/** Devices as the selector means them, made up but for those called by name; a text says why there are none. */
function standIns(
  selector: Selector,
  policy: Policy,
  world: World,
  via: readonly Selector[] = [],
): readonly Standing[] | string {
  const { access, users, idByName } = world;
  const viaKeys = via.flatMap((one) => (one.kind === "network" ? [] : [selectorKey(one)]));
  const exits = ["0.0.0.0/0", "::/0"] as Cidr[];
  const person = (login: string): Standing => {
    const known = [...users].find(([, user]) => user.login === login);
    const keys = personKeys(known?.[0] ?? login, known?.[1] ?? { login, role: "member" }, policy);
    return { ...NOBODY, keys: new Set(["*", ...keys]), owner: known?.[0] ?? `login ${login}`, own: SOMEWHERE };
  };
  switch (selector.kind) {
    case "login":
      return [person(selector.name)];
    case "group": {
      const logins = policy.groups.get(selector.name) ?? [];
      return logins.length === 0 ? `group:${selector.name} has nobody in it to test with` : logins.map(person);
    }
    case "tag":
      return [{ ...NOBODY, keys: new Set(["*", "autogroup:tagged", `tag:${selector.name}`]), own: SOMEWHERE }];
    case "device": {
      const standing = access.standing(idByName.get(selector.name) ?? "");
      return standing === undefined ? `no device is called "${selector.name}"` : [standing];
    }
    case "everyone":
      return [{ ...NOBODY, own: SOMEWHERE }];
    case "network": {
      const own = [selector.network];
      // An address of the network is a device's; another is behind a router, or beyond an exit node.
      const device = [...idByName.values()]
        .map((id) => access.standing(id))
        .find((one) => one?.own.includes(own[0] as Cidr));
      return [device ?? { ...NOBODY, keys: new Set(["*", ...viaKeys]), subnets: own }];
    }
    case "autogroup":
      if (selector.name === "internet") return [{ ...NOBODY, keys: new Set(["*", ...viaKeys]), exits }];
      if (selector.name === "self") return "autogroup:self is nobody in particular: test with a login or a device";
      return [{ ...NOBODY, keys: new Set(["*", selectorKey(selector)]), own: SOMEWHERE }];
  }
}

function textOf(selector: Selector): string {
  if (selector.kind === "network") return cidrAddress(selector.network);
  return selector.kind === "login" ? selector.name : selectorKey(selector);
}
