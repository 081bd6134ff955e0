#!/usr/bin/env bash
# Takes Ubuntu's packages from UBUNTU_MIRROR, such as https://mirrors.tuna.tsinghua.edu.cn/ubuntu, where it is set.
# docker/apt-mirror.sh [FOLDER]: of apt's configuration, /etc/apt.
set -euo pipefail

[ -n "${UBUNTU_MIRROR:-}" ] || exit 0
find "${1:-/etc/apt}" \( -name '*.list' -o -name '*.sources' \) -exec \
    sed -i -E "s#https?://[a-z.]+\.ubuntu\.com/ubuntu(-ports)?/?#${UBUNTU_MIRROR%/}/#" {} +
