import * as z from "zod";
import type { Outcome } from "./command.js";
import { configSchema } from "./config.js";

/** The schema by which config.yaml is checked, said in JSON Schema. */
export async function schemaAction(): Promise<Outcome> {
  const schema = configJsonSchema();
  return { value: schema, text: JSON.stringify(schema, null, 2) };
}

export function configJsonSchema(): Record<string, unknown> {
  // Of what is written and not of what is read: keys with a default may be left out.
  const schema = z.toJSONSchema(configSchema, { io: "input", target: "draft-7" });
  return { title: "exitnode config.yaml", ...schema };
}
