# SPDX-License-Identifier: Apache-2.0
"""What goes wrong with an arm or a camera, each with its own type and one sentence that says how to mend it."""


class DriverError(RuntimeError):
    """Something the person at the robot can mend."""


class BusError(DriverError):
    """The servo bus does not do what it should."""


class PortMissingError(BusError):
    """There is no such serial port."""


class PortDeniedError(BusError):
    """This user may not open the port."""


class PortBusyError(BusError):
    """Another program has the port."""


class PortLostError(BusError):
    """The port went away while it was open."""


class NoAnswerError(BusError):
    """A servo gave no usable answer in all tries."""


class MissingServoError(BusError):
    """Not all servos are on the bus."""


class WrongModelError(BusError):
    """A servo is of another model."""


class MixedFirmwareError(BusError):
    """The servos' firmware differs."""


class SupplyError(DriverError):
    """The servos get the wrong voltage."""


class CalibrationError(DriverError):
    """A calibration that cannot be read, or does not fit."""


class MessageError(DriverError):
    """A message that is no command for this arm."""


class SafetyError(DriverError):
    """Settings or limits that cannot keep the arm safe."""


class CameraError(DriverError):
    """A camera does not do what it should."""


class CameraMissingError(CameraError):
    """There is no such device or file, or it cannot be opened."""


class CameraLostError(CameraError):
    """The camera went away, or fell silent, while it was open."""


class CameraFrozenError(CameraError):
    """The camera delivers the same picture again and again."""


class CameraSizeError(CameraError):
    """The camera delivers another size than the task says."""


class CameraInfoError(CameraError):
    """A camera_info file that cannot be read, or does not fit."""


class VideoEndedError(CameraError):
    """A video file has been played."""


class InputError(DriverError):
    """A gamepad or keyboard cannot be used."""


class InputMissingError(InputError):
    """There is no such device, or none that has what the mapping names."""


class InputAmbiguousError(InputError):
    """Several devices fit."""


class InputDeniedError(InputError):
    """This user may not open the device."""


class MappingError(DriverError, ValueError):
    """A mapping that names what there is not, or contradicts itself."""
