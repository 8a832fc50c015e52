//! Time zones: which wall-clock time it is where the window is meant.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

/// A time zone, or the local time of this system.
#[derive(Clone, Debug)]
pub struct Zone {
    pub(super) name: Option<String>,
    zone: TimeZone,
}

impl Zone {
    /// The zone of this name, such as `Europe/Berlin`, from the system's zone
    /// database or else the one that is built in.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn named(name: &str) -> Result<Self, String> {
        let zone = TimeZone::get(name).ok().filter(|zone| !zone.is_unknown());
        let zone = zone.ok_or_else(|| {
            format!("'{name}' is not the name of a time zone, such as Europe/Berlin")
        })?;
        let name = zone.iana_name().unwrap_or(name).to_owned();
        Ok(Self { name: Some(name), zone })
    }

    /// Local time, as this system has it: `TZ`, else /etc/localtime.
    ///
    /// # Errors
    /// When it cannot be told. UTC is not taken instead: a wrong hour is an
    /// uplink filled in the middle of the day.
    pub fn local() -> Result<Self, String> {
        let zone = TimeZone::try_system().ok().filter(|zone| !zone.is_unknown());
        let zone = zone.ok_or_else(|| "the local time zone cannot be told".to_owned())?;
        Ok(Self { name: None, zone })
    }

    /// The zone's name, as a stamp has it; local time has none.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The clock and the calendar on the wall.
    pub fn wall(&self, at: Timestamp) -> DateTime {
        self.zone.to_datetime(at)
    }

    /// The day of the calendar on the wall.
    pub fn date(&self, at: Timestamp) -> Date {
        self.wall(at).date()
    }

    /// Seconds since Monday 00:00 on the clock on the wall.
    pub(super) fn second_of_week(&self, at: Timestamp) -> u32 {
        let wall = self.wall(at);
        let day = wall.weekday().to_monday_zero_offset();
        let [day, hour, minute, second] = [day, wall.hour(), wall.minute(), wall.second()]
            .map(|field| u32::from(field.unsigned_abs()));
        ((day * 24 + hour) * 60 + minute) * 60 + second
    }

    /// When the clock on the wall is changed next.
    pub(super) fn next_change(&self, after: Timestamp) -> Option<Timestamp> {
        self.zone.following(after).next().map(|change| change.timestamp())
    }
}
