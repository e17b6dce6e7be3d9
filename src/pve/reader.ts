import * as z from "zod";
import { Failure } from "../kit/failure.js";

/**
 * How answers of Proxmox are read. Its Perl writes numbers as strings now and then, leaves fields out, and writes null
 * for "nothing", also where a list is expected: all of that is taken.
 */
export const number = z
  .union([
    z.number(),
    z
      .string()
      .regex(/^-?\d+(?:\.\d+)?$/)
      .transform(Number),
  ])
  .nullish()
  .transform((value) => value ?? undefined);
export const needed = z.union([
  z.number(),
  z
    .string()
    .regex(/^-?\d+$/)
    .transform(Number),
]);
export const flag = z
  .union([z.boolean(), z.number(), z.string()])
  .nullish()
  .transform((value) => value === true || value === 1 || value === "1");
export const text = z
  .union([z.string(), z.number().transform(String)])
  .nullish()
  .transform((value) => value ?? "");
export const list = <T extends z.ZodType>(item: T) =>
  z
    .array(item)
    .nullish()
    .transform((items) => items ?? []);
export const words = (separator: RegExp) =>
  text.transform((value) => value.split(separator).filter((word) => word !== ""));

export function reader<T extends z.ZodType>(what: string, schema: T): (reply: unknown) => z.output<T> {
  return (reply) => {
    const parsed = schema.safeParse(reply);
    if (parsed.success) return parsed.data;
    const issue = parsed.error.issues[0];
    const where = issue?.path.map(String).join(".") || "the whole";
    throw new Failure(
      "pve-reply-unexpected",
      `the host's answer about ${what} is not understood: ${where}: ${issue?.message}`,
      { advice: "exitnode host check <name>: Proxmox VE 8.4 or newer is needed" },
    );
  };
}
