import * as z from "zod";
import { tryCidr } from "../kit/ip.js";
import { tryJson } from "../kit/json.js";

/**
 * How a container says that it is one of ours: the tag, and one line of its description
 *
 *   exitnode: {"id":"5f1c…","name":"home","hostKey":"SHA256:…","given":{"memory":1024}}
 *
 * The rest of the description belongs to whoever writes there; our line survives edits around it, migration to
 * another PVE node, backup and restore, and the loss of the machine that ran `create`.
 */
export const TAG = "exitnode";
// White space after it may go, but not the line's end: the lines below are not ours.
const LINE = /^exitnode: (\{.*\})[^\S\r\n\u2028\u2029]*$/m;

/** What somebody chose explicitly; a later `create` without these options keeps to them. */
const givenOptions = z
  .strictObject({
    pveNode: z.string(),
    storage: z.string(),
    template: z.string(),
    templateStorage: z.string(),
    bridge: z.string(),
    vlan: z.number(),
    ip: z.string(),
    gateway: z.string(),
    ip6: z.string(),
    gateway6: z.string(),
    cores: z.number(),
    memory: z.number(),
    disk: z.number(),
    vmid: z.number(),
    pool: z.string(),
    dataPlane: z.enum(["auto", "kernel", "userspace"]),
    allowLan: z.array(z.string().refine((text) => tryCidr(text) !== undefined)),
    publicAddress: z.string(),
  })
  .partial();
export type GivenOptions = z.infer<typeof givenOptions>;

/**
 * How the state of before an upgrade is kept, written down before it is made: while the description says so, an
 * upgrade is under way. The name is the snapshot's, or stands in the notes of the backup; the others are containers:
 * a copy, the next one that is to take this one's place, the previous one whose place this one took.
 * `tunnel`: a device of ours came through the exit node before the upgrade, so it has to afterwards.
 */
const kept = { name: z.string(), tunnel: z.boolean().optional() };
const save = z.discriminatedUnion("how", [
  z.object({ how: z.literal("snapshot"), ...kept }),
  z.object({ how: z.literal("backup"), ...kept, storage: z.string() }),
  z.object({ how: z.enum(["copy", "next", "previous"]), ...kept, vmid: z.number() }),
]);
export type Save = z.infer<typeof save>;

/**
 * Says of a container that it stands beside the exit node of its name and is none itself: the copy of before an
 * upgrade, the one that is to take its place, or the one whose place it took. `net0` is what it takes over, `of` the one it stands beside.
 */
const beside = z.object({ as: z.enum(["copy", "next", "previous"]), of: z.number(), net0: z.string() });
export type Beside = z.infer<typeof beside>;

const identitySchema = z.object({
  id: z.string().min(1).max(64),
  name: z.string(),
  /** Fingerprint of the container's ed25519 host key, as the create task printed it. */
  hostKey: z.string().optional(),
  /** The coordinator runs here too. */
  coordinator: z.boolean().optional(),
  /** The template it was made from, without its storage. */
  template: z.string().optional(),
  /** Where it was last seen from outside. */
  publicAddress: z.string().optional(),
  /** Where it was seen before, while the address that was chosen since has not been seen to lead to it. */
  formerAddress: z.string().optional(),
  given: givenOptions.default({}),
  save: save.optional(),
  beside: beside.optional(),
});
export type Identity = z.infer<typeof identitySchema>;

/** Whether a volume is a template of ours, by the name the builder gives it. */
export const isOurTemplate = (volid: string): boolean =>
  /:vztmpl\/debian-\d+-exitnode_[^/]*\.tar\.(?:zst|xz|gz)$/.test(volid);

export function readIdentity(description: string): Identity | undefined {
  const line = LINE.exec(description)?.[1];
  if (line === undefined) return undefined;
  const parsed = identitySchema.safeParse(tryJson(line));
  return parsed.success ? parsed.data : undefined;
}

/** The description with our line put in or replaced, everything else as it was. */
export function writeIdentity(description: string, identity: Identity): string {
  // Parsed once more for the order of its fields: the same identity is the same line.
  const line = `exitnode: ${JSON.stringify(identitySchema.parse(identity))}`;
  if (LINE.test(description)) return description.replace(LINE, () => line);
  const opening = `Exit node **${identity.name}**. The next line says whose it is: keep it.`;
  return [description.trimEnd() || opening, "", line].join("\n");
}

/** 16 bytes of chance as an id. */
export function identityId(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
