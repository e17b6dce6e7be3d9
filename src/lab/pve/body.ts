import type { IncomingMessage } from "node:http";
import { isRecord } from "./json.js";
import type { Raw } from "./property.js";
import { Refusal } from "./refusal.js";

/** The largest body that is not an upload. */
const BODY_BYTES_MAX = 512 * 1024;

/** The parameters in a form or JSON body. A key given twice comes as a list, which every type check refuses. */
export async function readBody(request: IncomingMessage, length: number): Promise<Record<string, Raw>> {
  if (length === 0) return {};
  if (length > BODY_BYTES_MAX) throw new Refusal(501, "for data too large", { body: "text" });
  const type = (request.headers["content-type"] ?? "application/x-www-form-urlencoded").split(";")[0]?.trim() ?? "";
  if (type !== "application/x-www-form-urlencoded" && type !== "application/json")
    throw new Refusal(506, `upload 'Content-Type '${type}' not implemented`, { body: "text" });
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const text = Buffer.concat(chunks).toString("utf8");
  return type === "application/json" ? fromJson(text) : fromForm(text);
}

function fromForm(text: string): Record<string, Raw> {
  const params: Record<string, Raw> = {};
  for (const [key, value] of new URLSearchParams(text)) {
    const before = params[key];
    params[key] = before === undefined ? value : [...(Array.isArray(before) ? before : [before]), value];
  }
  return params;
}

function fromJson(text: string): Record<string, Raw> {
  try {
    const value: unknown = JSON.parse(text);
    if (isRecord(value)) return value as Record<string, Raw>;
  } catch {
    // The same answer as for JSON that is no object.
  }
  throw new Refusal(500, "malformed JSON string, neither tag, array, object, number, string or atom", { body: "text" });
}
