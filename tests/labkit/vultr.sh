# Shapes a fresh debootstrap like a Vultr VPS on the day it was ordered. Run by sh -eu inside the tree.

[ ! -d /usr/local/share/ca-certificates ] || update-ca-certificates >/dev/null 2>&1
apt-get update -q
apt-get -y -q --no-install-recommends upgrade
apt-get clean

# Names and locale.
echo vultr > /etc/hostname
cat > /etc/hosts <<'HOSTS'
127.0.0.1	localhost
127.0.1.1	vultr.guest	vultr

# The following lines are desirable for IPv6 capable hosts
::1     localhost ip6-localhost ip6-loopback
ff02::1 ip6-allnodes
ff02::2 ip6-allrouters
HOSTS
echo LANG=C.UTF-8 > /etc/default/locale
ln -sf /usr/share/zoneinfo/Etc/UTC /etc/localtime

# Root comes in by key on port 22. The drop-in is cloud-init's own, password line included.
rm -f /etc/ssh/ssh_host_*
mkdir -p /etc/ssh/sshd_config.d
echo 'PasswordAuthentication yes' > /etc/ssh/sshd_config.d/50-cloud-init.conf
chmod 600 /etc/ssh/sshd_config.d/50-cloud-init.conf
install -d -m 700 /root/.ssh
passwd -l root >/dev/null

# The provider's default account, as cloud-init makes it.
groupadd -g 1000 linuxuser
useradd -u 1000 -g 1000 -m -s /bin/bash -c '' -G sudo linuxuser
passwd -l linuxuser >/dev/null
install -o linuxuser -g mail -m 660 /dev/null /var/mail/linuxuser
cat > /etc/sudoers.d/90-cloud-init-users <<'SUDOERS'
# Created by cloud-init v. 25.1.4 on Thu, 20 Nov 2025 09:12:44 +0000

# User rules for linuxuser
linuxuser ALL=(ALL) NOPASSWD:ALL
SUDOERS
chmod 440 /etc/sudoers.d/90-cloud-init-users
visudo -cf /etc/sudoers >/dev/null

# systemd-tmpfiles would make these as btrfs subvolumes, which snapshots leave out; directories stay directories.
install -d -m 700 /var/lib/machines /var/lib/portables

# Every host gets its own.
: > /etc/machine-id
rm -f /var/lib/dbus/machine-id /etc/resolv.conf
systemctl enable ssh.service >/dev/null 2>&1
# There is nobody at a console in the lab.
systemctl mask console-getty.service >/dev/null 2>&1
find /var/log -type f -exec sh -c ': > "$1"' sh {} \;
