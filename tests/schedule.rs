//! Backups that start by themselves: akashita-at(8), and what etc/ has for
//! cron(8), systemd and periodic(8).

mod installed;
mod night;
mod periodic;
mod queue;
mod units;
