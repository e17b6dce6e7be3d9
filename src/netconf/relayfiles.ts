import Handlebars from "handlebars";
import * as z from "zod";
import { Failure } from "../kit/failure.js";
import { tryKey } from "../kit/key.js";

/** The files of a machine that runs a relay, a container, a VPS or any other: a unit and its configuration. */

const port = z.number().int().min(1).max(65_535);
/** What may stand between quotes in a unit and in JSON. */
const path = z.string().regex(/^\/[A-Za-z0-9_./+-]+$/, "expected an absolute path of letters, digits and _./+-");

const relayValues = z.strictObject({
  node: path.default("/usr/bin/node"),
  program: path.default("/opt/exitnode/relay.js"),
  port: port.default(443),
  /** 0 answers no STUN. */
  stunPort: port.or(z.literal(0)).default(3_478),
  otherStunPort: port.optional(),
  coordinatorKeys: z
    .array(z.string().refine((text) => tryKey(text) !== undefined, "expected a 32-byte base64 key"))
    .min(1)
    .max(8),
  hosts: z
    .array(z.string().regex(/^[A-Za-z0-9.:-]+$/, "expected a name or an address"))
    .max(8)
    .default([]),
  /** Prometheus on the loopback address. */
  metricsPort: port.optional(),
});
export type RelayValues = z.input<typeof relayValues>;

export type RelayFile = { readonly path: string; readonly mode: number; readonly content: string };

const SOURCES = [
  { source: "exitnode-relay.service", path: "/etc/systemd/system/exitnode-relay.service" },
  { source: "relay.json", path: "/etc/exitnode/relay.json" },
] as const;

/** What must follow when the files are there, and whenever one of them or the program has changed. */
export const RELAY_COMMANDS: readonly (readonly string[])[] = [
  ["systemctl", "daemon-reload"],
  ["systemctl", "enable", "exitnode-relay.service"],
  ["systemctl", "restart", "exitnode-relay.service"],
];

/** `read` gives the text of a file of templates/ by its name there. */
export async function renderRelayFiles(
  read: (name: string) => Promise<string | undefined>,
  values: RelayValues,
): Promise<RelayFile[]> {
  const parsed = relayValues.safeParse(values);
  if (!parsed.success) {
    const issues = parsed.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`);
    throw new Failure("relay-values-invalid", `the relay's files cannot be written: ${issues.join("; ")}`);
  }
  const context = { metricsPort: undefined, otherStunPort: undefined, ...parsed.data };
  return Promise.all(
    SOURCES.map(async (file) => {
      const source = await read(`${file.source}.hbs`);
      if (source === undefined)
        throw new Failure("template-missing", `templates/${file.source}.hbs is missing`, {
          advice: "install the package again",
        });
      const content = Handlebars.compile(source, { noEscape: true, strict: true })(context);
      return { path: file.path, mode: 0o644, content };
    }),
  );
}
