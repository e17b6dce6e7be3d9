import { createHash, type Hash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { chmod, copyFile, rename, rm, stat } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import { join } from "node:path";
import { finished } from "node:stream/promises";
import type { Call } from "./pve.js";
import { badParameters, Refusal } from "./refusal.js";
import { TEMPLATE } from "./storage.js";

/** What a multipart upload brought: its fields, and its file in a temporary place. */
export type Upload = {
  readonly fields: Readonly<Record<string, string>>;
  readonly filename: string;
  readonly temporary: string;
  readonly digest: string | undefined;
};

/** The genuine parser reads the parts in this order and no other. */
const ORDER = ["content", "checksum-algorithm", "checksum", "filename"];
const ALGORITHMS = new Set(["md5", "sha1", "sha224", "sha256", "sha384", "sha512"]);
/** A part's headers, or a field's value, longer than this end the upload. */
const PART_BYTES_MAX = 64 * 1024;

const badRequest = (): Refusal => new Refusal(400, "Bad Request", { body: "empty" });

/** Reads the body; the file goes to disk as it comes, with its checksum taken on the way. */
export async function receiveUpload(request: IncomingMessage, folder: string): Promise<Upload> {
  const boundary = /boundary=([^\s;"]+)/.exec(request.headers["content-type"] ?? "")?.[1];
  if (boundary === undefined) throw badRequest();
  const parts = new PartReader(request, boundary);
  const fields: Record<string, string> = {};
  let at = -1;
  for (;;) {
    const { name, filename } = await parts.header();
    const order = ORDER.indexOf(name);
    if (order <= at) throw badRequest();
    at = order;
    if (name !== "filename") fields[name] = (await parts.value()).toString("utf8");
    else if (filename === undefined) throw badRequest();
    else {
      const algorithm = fields["checksum-algorithm"] ?? "";
      const hash = ALGORITHMS.has(algorithm) ? createHash(algorithm) : undefined;
      const temporary = join(folder, `pveupload-${randomBytes(16).toString("hex")}`);
      await storeFile(parts, temporary, hash);
      return { fields, filename, temporary, digest: hash?.digest("hex") };
    }
  }
}

async function storeFile(parts: PartReader, path: string, hash: Hash | undefined): Promise<void> {
  const out = createWriteStream(path, { mode: 0o600 });
  try {
    for await (const chunk of parts.chunks()) {
      hash?.update(chunk);
      if (!out.write(chunk)) await once(out, "drain");
    }
    out.end();
    await finished(out);
  } catch (error) {
    out.destroy();
    await rm(path, { force: true });
    throw error;
  }
}

/** Takes a multipart body apart without holding more than a part's header and one chunk. */
class PartReader {
  readonly #chunks: AsyncIterator<Buffer>;
  readonly #delimiter: Buffer;
  #held: Buffer;

  constructor(request: IncomingMessage, boundary: string) {
    this.#chunks = request[Symbol.asyncIterator]();
    this.#delimiter = Buffer.from(`\r\n--${boundary}`);
    // The first delimiter has no line before it.
    this.#held = Buffer.from("\r\n");
  }

  async header(): Promise<{ name: string; filename: string | undefined }> {
    const text = (await this.#until(Buffer.from("\r\n\r\n"))).toString("latin1");
    const first =
      text
        .replace(/^(?:\r\n)?--[^\r\n]*/, "")
        .replace(/^\r\n/, "")
        .split("\r\n")[0] ?? "";
    const match = /^content-disposition: form-data; name="([^"]*)"(?:; filename="([^"]*)")?/i.exec(first);
    if (match === null) throw badRequest();
    return { name: match[1] ?? "", filename: match[2] };
  }

  async value(): Promise<Buffer> {
    return this.#until(this.#delimiter);
  }

  async *chunks(): AsyncGenerator<Buffer> {
    for (;;) {
      const end = this.#held.indexOf(this.#delimiter);
      if (end >= 0) {
        yield this.#held.subarray(0, end);
        this.#held = this.#held.subarray(end + this.#delimiter.length);
        return;
      }
      const sure = Math.max(0, this.#held.length - this.#delimiter.length);
      if (sure > 0) yield this.#held.subarray(0, sure);
      this.#held = this.#held.subarray(sure);
      await this.#more();
    }
  }

  async #until(mark: Buffer): Promise<Buffer> {
    for (;;) {
      const end = this.#held.indexOf(mark);
      if (end >= 0) {
        const found = this.#held.subarray(0, end);
        this.#held = this.#held.subarray(end + mark.length);
        return found;
      }
      if (this.#held.length > PART_BYTES_MAX) throw badRequest();
      await this.#more();
    }
  }

  async #more(): Promise<void> {
    const next = await this.#chunks.next();
    if (next.done) throw badRequest();
    this.#held = Buffer.concat([this.#held, next.value]);
  }
}

/** After the parameters were checked: the task that moves the file to its place. */
export function importUpload(call: Call, upload: Upload): string {
  const { pve, params } = call;
  const filename = upload.filename.replace(/^.*[/\\]/, "").replace(/[^a-zA-Z0-9_.-]/g, "_");
  const content = String(params.content);
  const folder = pve.storages.get(String(params.storage)).folderOf(content);
  if (!(content === "iso" ? /\.(?:iso|img)$/i : TEMPLATE).test(filename))
    throw badParameters({ filename: "wrong file extension" });
  const target = join(folder, filename);
  const checksum = params.checksum;
  return pve.tasks.start("imgcopy", "", call.caller, async (log) => {
    try {
      log.line(`starting file import from: ${upload.temporary}`);
      if (checksum !== undefined && upload.digest !== undefined) {
        if (upload.digest !== String(checksum).toLowerCase()) {
          log.line("calculating checksum...");
          throw new Error(`checksum mismatch: got '${upload.digest}' != expect '${checksum}'`);
        }
        log.line("calculating checksum...OK, checksum verified");
      }
      log.line(`target node: ${pve.nodeName}`);
      log.line(`target file: ${target}`);
      log.line(`file size is: ${(await stat(upload.temporary)).size}`);
      log.line(`command: cp -- ${upload.temporary} ${target}`);
      // Beside the target first: a template that is being unpacked elsewhere keeps its content.
      const beside = `${target}.${randomBytes(4).toString("hex")}.tmp`;
      await copyFile(upload.temporary, beside);
      // Unprivileged containers are unpacked by a user of their own, who must be able to read it.
      await chmod(beside, 0o644);
      await rename(beside, target);
      log.line("finished file import successfully");
    } finally {
      await rm(upload.temporary, { force: true });
    }
  });
}
