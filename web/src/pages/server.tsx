// SPDX-License-Identifier: Apache-2.0
import { Page } from "../parts";

export function ServerPage({ name }: { name: string }) {
    return <Page title={name} />;
}
