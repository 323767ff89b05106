// SPDX-License-Identifier: Apache-2.0
import { Page } from "../parts";

export function ServersPage() {
    return <Page title="Servers" />;
}
