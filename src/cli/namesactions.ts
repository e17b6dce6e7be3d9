import * as z from "zod";
import { Failure } from "../kit/failure.js";
import { tryIp } from "../kit/ip.js";
import { domainName, type MapNames, mapNames, type NamesRequest, namesRequest } from "../wire/names.js";
import { parseWith } from "../wire/schema.js";
import { callCoordinator } from "./admin.js";
import type { Call, Outcome } from "./command.js";
import { renderFolded, renderTable } from "./table.js";

export async function showNames(call: Call): Promise<Outcome> {
  return shown(await callCoordinator(call, mapNames, "GET", "/names"));
}

export async function setNames(call: Call): Promise<Outcome> {
  const { domain, resolver, resolvers } = call.options;
  if (resolvers === false && resolver !== undefined)
    throw new Failure("usage", "expected one of --resolver and --no-resolvers, got both");
  const wanted: NamesRequest = {
    ...(typeof domain === "string" ? { domain: domain.toLowerCase().replace(/\.$/, "") } : {}),
    ...(Array.isArray(resolver) ? { resolvers: addresses(resolver, "--resolver") } : {}),
    ...(resolvers === false ? { resolvers: [] } : {}),
  };
  if (Object.keys(wanted).length === 0)
    throw new Failure("usage", "expected --domain, --resolver or --no-resolvers, got none of them");
  parseWith(namesRequest, wanted, "what was asked for", "usage");
  return shown(await callCoordinator(call, mapNames, "PATCH", "/names", wanted));
}

export async function addName(call: Call): Promise<Outcome> {
  const [given = "", ...rest] = call.args;
  const name = nameFrom(given);
  const { resolver } = call.options;
  const isSplit = Array.isArray(resolver);
  if (isSplit === rest.length > 0)
    throw new Failure("usage", `expected addresses for ${name}, or --resolver, got ${isSplit ? "both" : "neither"}`);
  const [path, body] = isSplit
    ? [`/names/split/${name}`, { resolvers: addresses(resolver, "--resolver") }]
    : [`/names/records/${name}`, { addresses: addresses(rest, name) }];
  return shown(await callCoordinator(call, mapNames, "PUT", path, body));
}

export async function removeName(call: Call): Promise<Outcome> {
  const name = nameFrom(call.args[0] ?? "");
  const { records, split } = await callCoordinator(call, mapNames, "GET", "/names");
  const paths = [
    ...records.filter((record) => record.name === name).map(() => `/names/records/${name}`),
    ...split.filter((one) => one.domain === name).map(() => `/names/split/${name}`),
  ];
  if (paths.length === 0)
    throw new Failure("name-unknown", `the network's names hold no "${name}"`, { advice: "exitnode names show" });
  for (const path of paths) await callCoordinator(call, z.unknown(), "DELETE", path);
  return { value: { removed: name }, text: `${name} is no name of this network any more` };
}

const nameFrom = (given: string): string =>
  parseWith(domainName, given.toLowerCase().replace(/\.$/, ""), `the name "${given}"`, "usage");

function addresses(given: readonly string[], what: string): string[] {
  return given.map((text) => {
    const ip = tryIp(text);
    if (ip === undefined) throw new Failure("usage", `expected an IP address for ${what}, got "${text}"`);
    return ip;
  });
}

function shown(names: MapNames): Outcome {
  const { domain, records, split, resolvers } = names;
  const head = renderFolded([
    [
      "domain",
      `${domain}: devices are <device>.${domain}, and <device> alone where the resolver asks for single words`,
    ],
    ["resolvers", resolvers.length === 0 ? "those of the network each device is in" : resolvers.join(", ")],
  ]);
  const rows = [
    ...records.map(({ name, addresses: own }) => [
      name.includes(".") ? name : `${name}.${domain}`,
      "is",
      own.join(", "),
    ]),
    ...split.map((one) => [`*.${one.domain}`, "asked of", one.resolvers.join(", ")]),
  ];
  return { value: names, text: rows.length === 0 ? head : `${head}\n\n${renderTable([["NAME", "", ""], ...rows])}` };
}
