import { join } from "node:path";
import { Failure } from "../kit/failure.js";
import { readTemplates, renderContainerFiles } from "../netconf/containerfiles.js";
import { plan } from "../provision/converge.js";
import { findContainer } from "../provision/observe.js";
import { newestTemplate } from "../provision/preflight/template.js";
import { parseName, parseOptions, resolveSpec } from "../provision/spec.js";
import type { OwnContainer } from "../provision/view.js";
import { ensureSshKey } from "../sys/sshkey.js";
import type { Call, Outcome } from "./command.js";
import { openedHost, provisionParts } from "./createparts.js";
import { noProgress } from "./createprogress.js";
import { toAnsible } from "./exportansible.js";
import { type ExportedContainer, nextCommand, settledContainer, wantedContainer } from "./exportcontainer.js";
import { toPct } from "./exportpct.js";
import { toTerraform } from "./exportterraform.js";
import type { OpenedHost } from "./hosts.js";
import { onItsHost } from "./itshost.js";

/** `export`: what is on the host, or what `create` would make there, in another tool's words. */
export async function exportExitNode(call: Call): Promise<Outcome> {
  const name = parseName(call.args[0] ?? "");
  const format = formatOf(call.options.format);
  const given = parseOptions(call.options);
  const unmade = (host: string): string[] => [
    `one that is not made yet: exitnode export ${name} --format ${format} --host ${host}`,
  ];
  const { opened, request } = await openedHost(await onItsHost(call, name, unmade));
  try {
    const { publicKey } = await ensureSshKey(call.parts.files, call.parts.paths.config);
    const where = { request, url: opened.entry.url, publicKey };
    const there = await findContainer(opened.pve, await opened.pve.guests(), name);
    const container =
      there === undefined
        ? wantedContainer(
            (await plan(await provisionParts(call, opened, noProgress), request, { name, given })).view,
            where,
            call.parts.random,
          )
        : settledContainer(there, await templateOf(opened, there), where);
    const remembered = there?.identity.given ?? {};
    const { allowLan } = resolveSpec(name, given, remembered, request.defaults);
    const text = await rendered(call, format, container, allowLan);
    const value = {
      name,
      host: request.hostName,
      format,
      exists: container.exists,
      next: nextCommand(container),
      text,
    };
    return { value, text };
  } finally {
    opened.pve.close();
  }
}

const FORMATS = ["terraform", "ansible", "pct"] as const;
type Format = (typeof FORMATS)[number];

function formatOf(given: unknown): Format {
  const format = FORMATS.find((one) => one === given);
  if (format !== undefined) return format;
  throw new Failure(
    "usage",
    `expected --format with one of ${FORMATS.join(", ")}, got "${String(given ?? "nothing")}"`,
  );
}

async function rendered(
  call: Call,
  format: Format,
  container: ExportedContainer,
  allowLan: readonly string[],
): Promise<string> {
  if (format === "terraform") return toTerraform(container);
  if (format === "ansible") return toAnsible(container);
  const { files, paths } = call.parts;
  const templates = await readTemplates((name) => files.readText(join(paths.package, "templates", name)));
  return toPct(container, renderContainerFiles(templates, { allowLan: [...allowLan] }));
}

/** Proxmox does not remember what a container was made from: the one that was named then, else our newest. */
async function templateOf({ pve }: OpenedHost, { identity, node }: OwnContainer): Promise<string> {
  const { template, templateStorage } = identity.given;
  if (template?.includes(":")) return template;
  const storages = (await pve.storages(node)).filter((one) => one.active && one.content.includes("vztmpl"));
  const storage = templateStorage ?? storages[0]?.id ?? "local";
  if (template !== undefined) return `${storage}:vztmpl/${template}`;
  const newest = newestTemplate(await pve.templates(node, storage));
  return newest?.volid ?? `${storage}:vztmpl/${FALLBACK}`;
}

const FALLBACK = "debian-13-exitnode_VERSION_amd64.tar.xz";
