import { concat, fromUtf8 } from "../../kit/bytes.js";
import { Failure } from "../../kit/failure.js";
import { tryJson } from "../../kit/json.js";

/** What comes in with a request, held to its bounds before anything looks at it. */

export const BODY_BYTES_MAX = 64 * 1024;
/** Longest value of a parameter in a path: ids and names are shorter. */
const PARAM_CHARACTERS_MAX = 128;
const QUERY_VALUE_CHARACTERS_MAX = 512;

/** The body's text, read no further than BODY_BYTES_MAX; "" when there is none. */
export async function bodyText(request: Request): Promise<string> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of request.body ?? []) {
    length += chunk.length;
    if (length > BODY_BYTES_MAX) throw new Failure("message-too-long", `a request has at most ${BODY_BYTES_MAX} bytes`);
    chunks.push(chunk);
  }
  const text = fromUtf8(concat(...chunks));
  if (text === undefined) throw new Failure("message-invalid", "the body is not UTF-8");
  return text;
}

/** The body as JSON. Without a content type it is taken for JSON: what else would it be. */
export function jsonOf(text: string, contentType: string | null): unknown {
  if (contentType !== null && !/^application\/json\s*(;\s*charset="?utf-8"?\s*)?$/i.test(contentType))
    throw new Failure("media-type-unsupported", "the body's content type must be application/json, in UTF-8");
  const value = tryJson(text);
  if (value === undefined) throw new Failure("message-invalid", "the body is not JSON");
  // PostgreSQL keeps no text with a NUL in it, and no word of ours has one.
  if (text.includes("\\u0000")) throw new Failure("message-invalid", "the body holds the character NUL");
  return value;
}

/** A parameter of the path, decoded. */
export function paramOf(value: string | undefined, name: string): string {
  if (value !== undefined && value !== "" && value.length <= PARAM_CHARACTERS_MAX && isPrintable(value)) return value;
  throw new Failure(
    "message-invalid",
    `the ${name} in the path must have 1 to ${PARAM_CHARACTERS_MAX} characters, none of them a control character`,
  );
}

/** The query, each name at most once. */
export function queryOf(queries: Readonly<Record<string, readonly string[]>>): Record<string, string> {
  const entries = Object.entries(queries).map(([name, values]): [string, string] => {
    const [value = "", ...more] = values;
    if (more.length > 0) throw new Failure("message-invalid", "the query names one parameter several times");
    if (value.length > QUERY_VALUE_CHARACTERS_MAX || !isPrintable(value))
      throw new Failure(
        "message-invalid",
        `a value in the query must have at most ${QUERY_VALUE_CHARACTERS_MAX} characters, none a control character`,
      );
    return [name, value];
  });
  return Object.fromEntries(entries);
}

const isPrintable = (text: string): boolean => !/\p{Cc}/u.test(text);
