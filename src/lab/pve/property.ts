import { formatError } from "./format.js";

/** One parameter as Proxmox's JSON schema describes it, reduced to what is checked. */
export type Property = {
  readonly type?: string;
  readonly optional?: number;
  readonly enum?: readonly string[];
  readonly format?: string | Readonly<Record<string, Property>>;
  readonly pattern?: string;
  readonly minimum?: number | string;
  readonly maximum?: number | string;
  readonly minLength?: number;
  readonly maxLength?: number;
  /** In a property string: the key that may be left out, as in `rootfs=local:2`. */
  readonly default_key?: number;
};
export type Properties = Readonly<Record<string, Property>>;
export type Raw = string | number | boolean | null | readonly unknown[] | object;
/** Checked parameters: booleans have become 0 and 1, numbers numbers. */
export type Params = Readonly<Record<string, string | number>>;

const MISSING = "property is missing and it is not optional";
const UNDEFINED = "property is not defined in schema and the schema does not allow additional properties";

/** Checks all parameters at once, as Proxmox does: every bad one is named. */
export function checkParams(
  properties: Properties,
  given: Readonly<Record<string, Raw>>,
): { params: Params; errors: Record<string, string> } {
  const errors: Record<string, string> = {};
  const params: Record<string, string | number> = {};
  for (const [name, raw] of Object.entries(given)) {
    const property = propertyOf(properties, name);
    if (property === undefined) {
      errors[name] = UNDEFINED;
      continue;
    }
    const checked = checkValue(property, name, raw);
    if ("error" in checked) errors[name] = checked.error;
    else params[name] = checked.value;
  }
  for (const [name, property] of Object.entries(properties))
    if (!property.optional && !name.endsWith("[n]") && !(name in given)) errors[name] = MISSING;
  return { params, errors };
}

/** `net3` is described by `net[n]`. */
export function propertyOf(properties: Properties, name: string): Property | undefined {
  if (Object.hasOwn(properties, name)) return properties[name];
  const numbered = /^([a-z]+)\d{1,3}$/.exec(name);
  return numbered === null ? undefined : properties[`${numbered[1]}[n]`];
}

function checkValue(property: Property, name: string, raw: Raw): { value: string | number } | { error: string } {
  const type = property.type ?? "string";
  if (raw === null || typeof raw === "object")
    return { error: `type check ('${type}') failed - got ${Array.isArray(raw) ? "ARRAY" : "HASH"}` };
  const text = raw === true ? "1" : raw === false ? "0" : String(raw);
  const typed = typedValue(type, text);
  if (typed === undefined) return { error: `type check ('${type}') failed - got '${text}'` };
  const error = valueError(property, name, text);
  return error === undefined ? { value: typed } : { error };
}

function typedValue(type: string, text: string): string | number | undefined {
  if (type === "boolean") {
    if (/^(1|on|yes|true)$/i.test(text)) return 1;
    return /^(0|off|no|false)$/i.test(text) ? 0 : undefined;
  }
  if (type === "integer") return /^[+-]?\d+$/.test(text) ? Number(text) : undefined;
  if (type === "number") return /^[+-]?\d+(\.\d+)?$/.test(text) ? Number(text) : undefined;
  return text;
}

function valueError(property: Property, name: string, text: string): string | undefined {
  const { format } = property;
  if (typeof format === "string") {
    const wrong = formatError(format, text);
    if (wrong !== undefined) return `invalid format - ${wrong}\n`;
  } else if (format !== undefined) {
    const parsed = parsePropertyString(format, text, name);
    if ("error" in parsed) return `invalid format - ${parsed.error}\n`;
  }
  if (property.pattern !== undefined && !new RegExp(`^(?:${property.pattern})$`).test(text))
    return "value does not match the regex pattern";
  if (property.enum !== undefined && !property.enum.includes(text))
    return `value '${text}' does not have a value in the enumeration '${property.enum.join(", ")}'`;
  if (property.maxLength !== undefined && text.length > property.maxLength)
    return `value may only be ${property.maxLength} characters long`;
  if (property.minLength !== undefined && text.length < property.minLength)
    return `value must be at least ${property.minLength} characters long`;
  if (property.minimum !== undefined && Number(text) < Number(property.minimum))
    return `value must have a minimum value of ${property.minimum}`;
  if (property.maximum !== undefined && Number(text) > Number(property.maximum))
    return `value must have a maximum value of ${property.maximum}`;
  return undefined;
}

/** Takes `name=eth0,bridge=vmbr0` apart; errors read as recorded, one line a key under "format error". */
function parsePropertyString(
  format: Properties,
  text: string,
  name: string,
): { values: Record<string, string> } | { error: string } {
  const values: Record<string, string> = {};
  const lines: string[] = [];
  const defaultKey = Object.entries(format).find(([, property]) => property.default_key)?.[0];
  for (const part of text.split(",").map((piece) => piece.trim())) {
    const at = part.indexOf("=");
    const key = at > 0 ? part.slice(0, at) : defaultKey;
    if (key === undefined) return { error: "value without key, but schema does not define a default key" };
    values[key] = part.slice(at > 0 ? at + 1 : 0);
  }
  for (const [key, value] of Object.entries(values)) {
    const property = format[key];
    const checked = property === undefined ? { error: UNDEFINED } : checkValue(property, key, value);
    if ("error" in checked) lines.push(`${name}.${key}: ${checked.error}\n`);
  }
  for (const [key, property] of Object.entries(format))
    if (!property.optional && !(key in values)) lines.push(`${name}.${key}: ${MISSING}\n`);
  return lines.length === 0 ? { values } : { error: `format error\n${lines.join("").replace(/\n$/, "")}` };
}
