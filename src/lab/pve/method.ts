import type { Check } from "./check.js";
import type { Properties } from "./property.js";
import { METHODS } from "./schema.js";

/** A line of schema.ts. */
export type Method = {
  readonly name: string;
  readonly verb: string;
  readonly path: readonly string[];
  readonly properties: Properties;
  readonly check: Check | undefined;
  readonly world: boolean;
  readonly noToken: boolean;
};

const methods: readonly Method[] = METHODS.trim().split("\n").map(parseLine);

const byName = new Map(methods.map((method) => [method.name, method]));

export function propertiesOf(name: string): Properties {
  const method = byName.get(name);
  if (method === undefined) throw new Error(`no method ${name}`);
  return method.properties;
}

/** The method for a request and what its path holds; a literal part wins over a parameter. */
export function findMethod(
  verb: string,
  parts: readonly string[],
): { method: Method; uri: Record<string, string> } | undefined {
  const fitting = methods.filter((method) => method.verb === verb && fits(method.path, parts));
  fitting.sort((a, b) => literals(b) - literals(a));
  const method = fitting[0];
  if (method === undefined) return undefined;
  const uri: Record<string, string> = {};
  method.path.forEach((part, i) => {
    if (!part.startsWith("{")) return;
    // A volume name may hold slashes, so the last parameter takes what is left.
    const rest = i === method.path.length - 1 ? parts.slice(i).join("/") : (parts[i] ?? "");
    uri[part.slice(1, -1)] = rest;
  });
  return { method, uri };
}

function fits(path: readonly string[], parts: readonly string[]): boolean {
  const open = path.at(-1) === "{volume}";
  if (open ? parts.length < path.length : parts.length !== path.length) return false;
  return path.every((part, i) => part.startsWith("{") || part === parts[i]);
}

const literals = (method: Method): number => method.path.filter((part) => !part.startsWith("{")).length;

function parseLine(line: string): Method {
  const [verb = "", path = "", ...rest] = line.split(" ");
  const row = JSON.parse(rest.join(" ")) as { p: Properties; check?: Check; world?: number; noToken?: number };
  return {
    name: `${verb} ${path}`,
    verb,
    path: path.split("/").filter((part) => part !== ""),
    properties: row.p,
    check: row.check,
    world: row.world === 1,
    noToken: row.noToken === 1,
  };
}
