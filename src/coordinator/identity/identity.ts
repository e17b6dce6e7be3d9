import { Failure } from "../../kit/failure.js";
import type { Files } from "../../sys/files.js";
import type { Log } from "../../sys/log.js";
import type { IdentityConfig } from "../../wire/identity.js";
import type { Lockout } from "../lockout.js";
import { Flows } from "./flows.js";
import { Invites } from "./invites.js";
import type { Provider } from "./oidc.js";
import { Passkeys } from "./passkeys.js";
import { People, type PeopleParts } from "./people.js";
import { Sessions } from "./sessions.js";
import { SignIns } from "./signins.js";
import { type WebAddress, webAddressOf } from "./webaddress.js";

export type IdentityParts = PeopleParts & {
  readonly files: Pick<Files, "readText">;
  /** Seals what browsers keep for us; the same for all coordinators of one name. */
  readonly secret: Uint8Array;
  /** Other coordinators may share the store. */
  readonly isShared: boolean;
  /** Reaches the identity provider. */
  readonly fetch: typeof fetch;
  readonly lockout: Lockout;
  readonly log?: Log;
};

/** Who people are and how they show it. */
export type Identity = {
  readonly people: People;
  readonly sessions: Sessions;
  readonly flows: Flows;
  readonly invites: Invites;
  readonly signIns: SignIns;
  readonly address: WebAddress;
  /** Undefined where people sign in otherwise. */
  readonly passkeys: Passkeys | undefined;
  readonly provider: Provider | undefined;
  readonly lockout: Lockout;
};

/** `urls` are the coordinator's. */
export async function openIdentity(
  parts: IdentityParts,
  urls: readonly string[],
  config: IdentityConfig | undefined,
): Promise<Identity> {
  const { store, registry, random, wall, secret, lockout } = parts;
  const log = parts.log === undefined ? {} : { log: parts.log };
  const address = webAddressOf(urls);
  const people = await People.open(parts);
  const provider = config?.oidc === undefined ? undefined : await openProvider(parts, config.oidc, address.origin);
  const machinesAtProvider = provider !== undefined && config?.oidc?.deviceFlow === true;
  const shared = { store, people, address, random, wall };
  return {
    people,
    sessions: new Sessions({ ...shared, origins: address.origins }),
    flows: new Flows({ secret, random, wall }),
    invites: new Invites(shared),
    signIns: new SignIns({
      ...{ store, registry, people, random, wall, isShared: parts.isShared, origin: address.origin, ...log },
      ...(machinesAtProvider ? { provider } : {}),
    }),
    address,
    passkeys: config?.passkeys === false || address.rpId === undefined ? undefined : new Passkeys(shared),
    provider,
    lockout,
  };
}

async function openProvider(
  { files, fetch, wall }: IdentityParts,
  config: NonNullable<IdentityConfig["oidc"]>,
  origin: string,
): Promise<Provider> {
  const { clientSecretFile } = config;
  const secret = clientSecretFile === undefined ? undefined : (await files.readText(clientSecretFile))?.trim();
  if (clientSecretFile !== undefined && (secret === undefined || secret === ""))
    throw new Failure("config-invalid", `${clientSecretFile} is missing or empty`, {
      advice: "write the client secret of the identity provider into it, readable by the coordinator's user alone",
    });
  // Read where there is a provider at all: it takes 8 MB.
  const oidc = await import("./oidc.js");
  return new oidc.Provider({ config, clientSecret: secret, origin, fetch, wall });
}
